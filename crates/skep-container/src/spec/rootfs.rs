//! Access to files in a container's root, resolved as the container would.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};
use skep_sys::files;

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
/// a pipe and touches no device that an image may have put there).
pub fn read_text(root: &Path, path: &Path, limit: u64) -> io::Result<String> {
    let pinned = open(root, path, OFlag::O_PATH)?;
    let file = files::reopen(&pinned, files::OFlags::RDONLY)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))?;
    let file = File::from(file);
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How many links may be followed on one way, as in the kernel.
const MAX_LINKS: usize = 40;

/// Where `path` leads with `root` as `/`: all links are followed, also those whose target does not exist
/// (yet), so that nothing but links has to be there. Mount points and working directories are made where
/// this says.
///
/// # Errors
/// Those of looking names up; `ELOOP` for too many links.
pub fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let root = File::open(root)?;
    let mut left: Vec<OsString> = Vec::new();
    let put = |left: &mut Vec<OsString>, path: &Path| {
        left.extend(path.components().rev().filter_map(|part| match part {
            Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
            _ => None,
        }));
    };
    put(&mut left, path);
    let (mut done, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        let target = match open_at(root.as_fd(), &done, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(folder) => match readlinkat(&folder, name.as_os_str()) {
                Ok(target) => Some(PathBuf::from(target)),
                // No link, or nothing at all.
                Err(Errno::EINVAL | Errno::ENOENT) => None,
                Err(errno) => return Err(errno.into()),
            },
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                None
            }
            Err(e) => return Err(e),
        };
        match target {
            Some(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP.into());
                }
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                put(&mut left, &target);
            }
            None => done.push(name),
        }
    }
    Ok(done)
}

/// Makes a directory and its missing parents (mode 0755), the new ones owned by `uid` and `gid`, at the
/// targets of links if need be. What exists is left alone; `ErrorKind::NotADirectory` if a part of it is
/// something else.
pub fn make_dir(root: &Path, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let path = resolve(root, path)?;
    let root = File::open(root)?;
    let mut done = PathBuf::from("/");
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
    fn links_are_followed_also_to_what_is_not_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).expect("mkdir");
        std::fs::create_dir_all(root.join("var/log")).expect("mkdir");
        std::fs::write(root.join("file"), "").expect("write");
        for (target, link) in [
            ("../run/systemd/resolve/stub-resolv.conf", "etc/resolv.conf"),
            ("/etc/resolv.conf", "etc/twice"),
            ("../../../../../../out", "etc/up"),
            ("/var/log", "log"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(link)).expect("link");
        }
        for (path, leads) in [
            ("/etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
            ("/etc/twice", "/run/systemd/resolve/stub-resolv.conf"),
            ("/etc/up/x", "/out/x"),
            ("/log/../a//./b", "/var/a/b"),
            ("/etc/new/../../../x", "/x"),
            ("/file/below", "/file/below"),
            ("/", "/"),
        ] {
            assert_eq!(resolve(&root, Path::new(path)).expect(path), Path::new(leads), "{path}");
        }
        let error = resolve(&root, Path::new("/loop/x")).expect_err("a loop");
        assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
        make_dir(&root, Path::new("/etc/up/x"), 0, 0).expect("make");
        assert!(root.join("out/x").is_dir());
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
