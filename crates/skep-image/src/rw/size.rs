//! How much a tree holds.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};
use skep_sys::files::names;

use crate::tar::pack::MAX_DEPTH;

/// Bytes of all files, each inode once. The tree may be changing.
pub(super) fn of(tree: &Path) -> io::Result<u64> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(tree, flags, Mode::empty())?;
    folder(root.as_fd(), &mut HashSet::new(), 0)
}

fn folder(dir: BorrowedFd<'_>, seen: &mut HashSet<(u64, u64)>, depth: usize) -> io::Result<u64> {
    let mut sum = 0;
    if depth > MAX_DEPTH {
        return Ok(sum);
    }
    for name in names(dir)? {
        let stat = match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(dir, &name, flags, Mode::empty()) {
                    Ok(child) => sum += folder(child.as_fd(), seen, depth + 1)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            FileType::RegularFile
                if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) =>
            {
                sum += u64::try_from(stat.st_size).unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(sum)
}
