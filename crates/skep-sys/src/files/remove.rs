//! Removing trees of any depth.
//!
//! A container can nest folders deeper than a path or a descriptor table can hold, so nothing here
//! recurses: what is found too deep is moved up and removed there.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};

use super::beneath::names;

/// Removes `path` with everything below; nothing happens if it is not there. Symlinks are removed,
/// never followed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
    remove_tree_at(CWD, &name)
}

/// As [`remove_tree`], relative to an open folder.
pub fn remove_tree_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    if quick(dir, name)? {
        return Ok(());
    }
    let top = open(dir, name)?;
    let mut moved = 0;
    loop {
        let names = names(top.as_fd())?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if !quick(top.as_fd(), &name)? {
                flatten(top.as_fd(), &name, &mut moved)?;
            }
        }
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Empties one folder in `top`, moving its non-empty folders up into `top`.
fn flatten(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> io::Result<()> {
    let folder = open(top, name)?;
    for child in names(folder.as_fd())? {
        if quick(folder.as_fd(), &child)? {
            continue;
        }
        loop {
            *moved += 1;
            let up = format!(".removed-{moved}");
            match renameat(&folder, &child, top, up.as_str()) {
                // Something has that name.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                other => break other?,
            }
        }
    }
    unlinkat(top, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Removes a file or an empty folder. `false`: a folder with content.
fn quick(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        // Linux says EISDIR, POSIX EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn open(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_trees_deeper_than_a_path_can_be() {
        let temp = tempfile::tempdir().unwrap();
        let victim = temp.path().join("v");
        std::fs::create_dir(&victim).unwrap();
        let mut dir = open(CWD, &CString::new(victim.to_str().unwrap()).unwrap()).unwrap();
        for _ in 0..700 {
            rustix::fs::mkdirat(&dir, "deeper", Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::mkdirat(&dir, "other", Mode::from_raw_mode(0o755)).unwrap();
            dir = open(dir.as_fd(), c"deeper").unwrap();
        }
        std::os::unix::fs::symlink(temp.path(), victim.join("link")).unwrap();
        remove_tree(&victim).unwrap();
        assert!(!victim.exists());
        assert!(temp.path().exists());
        remove_tree(&victim).unwrap();
    }
}
