//! Names below a folder that somebody else may be changing at the same time.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// What a name that would lead out of the folder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beneath {
    /// The folder is `/`, as for a process whose root it is: absolute links and `..` stay inside.
    AsRoot,
    /// It is refused (`EXDEV`).
    Refused,
}

/// Opens `path` in the folder `root`, never outside of it and never through a link of `/proc`, whoever
/// exchanges names meanwhile.
///
/// `flags` are those of open(2); `O_CLOEXEC` is added. Without `O_NONBLOCK` (or `O_PATH`) a FIFO may block.
///
/// # Errors
/// Those of openat2(2).
pub fn open_beneath(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    beneath: Beneath,
) -> io::Result<OwnedFd> {
    let resolve = match beneath {
        Beneath::AsRoot => ResolveFlags::IN_ROOT,
        Beneath::Refused => ResolveFlags::BENEATH,
    } | ResolveFlags::NO_MAGICLINKS;
    // An empty path is the folder itself.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere raced with the look-up; the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a regular file by its name for reading. `None` if there is none: neither a link is followed, nor
/// does a FIFO block, nor is a device touched, whoever puts one there in the right moment.
///
/// # Errors
/// Those of opening.
pub fn open_file(dir: impl AsFd, name: &CStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Ok(pinned) => reopen(&pinned, OFlags::RDONLY),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens what a descriptor stands for (one of `O_PATH`, which did not touch it) with other `flags`. `None` if
/// it is no regular file.
///
/// # Errors
/// Those of opening.
pub fn reopen(pinned: impl AsFd, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    let stat = fstat(&pinned)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let path = format!("/proc/self/fd/{}", pinned.as_fd().as_raw_fd());
    Ok(Some(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?))
}

/// The names in a folder but `.` and `..`, sorted by their bytes.
pub fn names(dir: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_lead_out() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir(temp.path().join("etc")).unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("../etc", root.join("relative")).unwrap();
        symlink("/proc/self/cwd", root.join("magic")).unwrap();
        let root = std::fs::File::open(root).unwrap();
        let open = |name: &str, how| open_beneath(&root, Path::new(name), OFlags::DIRECTORY, how);
        for link in ["absolute", "relative", "etc/../../etc"] {
            open(link, Beneath::AsRoot).unwrap();
            let refused = open(link, Beneath::Refused).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(Errno::XDEV.raw_os_error()), "{link}");
        }
        open("etc", Beneath::Refused).unwrap();
        open("", Beneath::Refused).unwrap();
        open("magic", Beneath::AsRoot).unwrap_err();
    }

    #[test]
    fn only_files_are_opened() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::write(at("file"), "content").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        symlink("file", at("link")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, mode, 0).unwrap();
        let tty = rustix::fs::makedev(5, 0);
        rustix::fs::mknodat(rustix::fs::CWD, at("tty"), FileType::CharacterDevice, mode, tty)
            .unwrap();
        let dir = std::fs::File::open(temp.path()).unwrap();
        let open = |name: &CStr| open_file(&dir, name).unwrap();
        let mut text = String::new();
        let mut file = std::fs::File::from(open(c"file").unwrap());
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "content");
        for name in [c"folder", c"link", c"fifo", c"tty", c"absent"] {
            assert!(open(name).is_none(), "{name:?}");
        }
    }
}
