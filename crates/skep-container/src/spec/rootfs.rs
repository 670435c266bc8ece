//! Access to files in a container's root, resolved as the container would.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

/// Opens `path` with `root` as `/`: links, absolute ones and `..` included, stay inside.
pub fn open(root: &Path, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let root = File::open(root)?;
    open_at(root.as_fd(), path, flags)
}

fn open_at(root: std::os::fd::BorrowedFd<'_>, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(root, path, how) {
            // A rename elsewhere raced with the look-up; the kernel asks to try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Reads a regular file of at most `limit` bytes (`ErrorKind::FileTooLarge` beyond; never blocks on
/// a pipe an image may have put there).
pub fn read_text(root: &Path, path: &Path, limit: u64) -> io::Result<String> {
    let file = File::from(open(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes a directory and its missing parents (mode 0755), the new ones owned by `uid` and `gid`.
/// What exists is left alone; `ErrorKind::NotADirectory` if a part of it is something else.
pub fn make_dir(root: &Path, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let root = File::open(root)?;
    let mut done = std::path::PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                let parent = open_at(root.as_fd(), &done, OFlag::O_DIRECTORY | OFlag::O_RDONLY)?;
                match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) => {
                        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                        fchownat(&parent, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                    }
                    Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                done.push(name);
            }
            Component::ParentDir => {
                done.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    open_at(root.as_fd(), &done, OFlag::O_DIRECTORY | OFlag::O_RDONLY).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_cannot_leave() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).expect("mkdir");
        std::fs::write(dir.path().join("secret"), "host").expect("write");
        std::fs::write(root.join("secret"), "container").expect("write");
        symlink("/secret", root.join("etc/absolute")).expect("link");
        symlink("../../secret", root.join("etc/relative")).expect("link");
        for link in ["/etc/absolute", "/etc/relative"] {
            assert_eq!(read_text(&root, Path::new(link), 100).expect("read"), "container");
        }
        let long = read_text(&root, Path::new("/secret"), 3).expect_err("too long");
        assert_eq!(long.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn directories_are_made_inside() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().join("root");
        std::fs::create_dir_all(&root).expect("mkdir");
        symlink("/", root.join("up")).expect("link");
        make_dir(&root, Path::new("/up/a/../b/c"), 0, 0).expect("make");
        assert!(root.join("b/c").is_dir());
        std::fs::write(root.join("file"), "").expect("write");
        make_dir(&root, Path::new("/file/x"), 0, 0).expect_err("not a directory");
    }
}
