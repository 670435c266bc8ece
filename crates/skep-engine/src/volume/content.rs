//! What is in a volume: its size, and filling a new one from an image.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use skep_container::spec::rootfs;

/// Bytes of the files below a folder, each hard link counted once by its blocks' owner; what cannot
/// be read counts nothing.
pub fn size(dir: &Path) -> u64 {
    let mut total = 0;
    let mut seen = std::collections::HashSet::new();
    let mut stack = vec![dir.to_owned()];
    while let Some(dir) = stack.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta): io::Result<Metadata> = entry.metadata() else { continue };
            if meta.is_dir() {
                stack.push(entry.path());
            } else if meta.nlink() < 2 || seen.insert((meta.dev(), meta.ino())) {
                total += meta.len();
            }
        }
    }
    total
}

/// Copies what `root` (a container's root) has at `path` into the empty volume folder `volume`, with
/// owners, modes and times; also the folder's own owner and mode. Nothing happens when the volume is
/// not empty or `path` is no folder there.
///
/// The path is resolved within the root, and nothing is followed while copying.
///
/// # Errors
/// When reading or writing fails; what was copied stays.
pub fn copy_up(root: &Path, path: &str, volume: &Path) -> io::Result<()> {
    if std::fs::read_dir(volume)?.next().is_some() {
        return Ok(());
    }
    let source = match rootfs::open(root, Path::new(path), OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(fd) => fd,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let target = File::open(volume)?;
    copy_dir(source, target.as_fd())?;
    Ok(())
}

/// Copies the entries of a folder, then its attributes.
fn copy_dir(source: OwnedFd, target: BorrowedFd<'_>) -> io::Result<()> {
    let stat = nix::sys::stat::fstat(&source)?;
    let mut dir = Dir::from_fd(source.try_clone()?)?;
    for entry in dir.iter() {
        let entry = entry?;
        let name =
            OsStr::new(entry.file_name().to_str().map_err(|_| io::ErrorKind::InvalidFilename)?)
                .to_owned();
        if name == "." || name == ".." {
            continue;
        }
        copy_entry(source.as_fd(), target, &name)?;
    }
    nix::unistd::fchown(
        target,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    nix::sys::stat::fchmod(target, Mode::from_bits_truncate(stat.st_mode))?;
    Ok(())
}

fn copy_entry(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let stat = fstatat(source, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    match kind {
        SFlag::S_IFDIR => {
            let from = openat(
                source,
                name,
                OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            mkdirat(target, name, Mode::from_bits_truncate(0o700))?;
            let to = openat(
                target,
                name,
                OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            copy_dir(from, to.as_fd())?;
        }
        SFlag::S_IFREG => {
            let from = openat(
                source,
                name,
                OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let to = openat(target, name, flags, Mode::from_bits_truncate(0o600))?;
            let (mut from, mut to) = (File::from(from), File::from(to));
            io::copy(&mut from, &mut to)?;
            // After the content: a write drops file capabilities.
            copy_xattrs(&from, &to)?;
        }
        SFlag::S_IFLNK => {
            let link = readlinkat(source, name)?;
            symlinkat(link.as_os_str(), target, name)?;
        }
        _ => mknodat(target, name, kind, Mode::from_bits_truncate(0o600), stat.st_rdev)?,
    }
    attributes(target, name, &stat, kind)
}

fn attributes(
    target: BorrowedFd<'_>,
    name: &OsStr,
    stat: &FileStat,
    kind: SFlag,
) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    fchownat(target, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind != SFlag::S_IFLNK {
        // After the owner: a change of owner clears the set-id bits.
        fchmodat(
            target,
            name,
            Mode::from_bits_truncate(stat.st_mode),
            FchmodatFlags::FollowSymlink,
        )?;
    }
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(target, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

/// Extended attributes such as file capabilities go along; a file system without them is no reason
/// to fail a start.
fn copy_xattrs(from: &File, to: &File) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
    use rustix::io::Errno;
    let mut names = vec![0u8; 64 << 10];
    let len = match flistxattr(from, &mut names[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut value = vec![0u8; 64 << 10];
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let size = fgetxattr(from, name, &mut value[..])?;
        match fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn content_is_copied_once_and_never_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
        std::fs::create_dir_all(root.join("data/sub")).unwrap();
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::write(root.join("data/sub/file"), "hello").unwrap();
        std::fs::set_permissions(root.join("data"), std::fs::Permissions::from_mode(0o750))
            .unwrap();
        symlink("/etc/passwd", root.join("data/link")).unwrap();
        symlink("/data", root.join("alias")).unwrap();
        copy_up(&root, "/alias", &volume).unwrap();
        assert_eq!(std::fs::read_to_string(volume.join("sub/file")).unwrap(), "hello");
        assert_eq!(std::fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(std::fs::metadata(&volume).unwrap().permissions().mode() & 0o777, 0o750);
        std::fs::write(root.join("data/later"), "x").unwrap();
        copy_up(&root, "/data", &volume).unwrap();
        assert!(!volume.join("later").exists());
        assert_eq!(size(&volume), 5 + "/etc/passwd".len() as u64);
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        copy_up(&root, "/nothing/here", &empty).unwrap();
        copy_up(&root, "/../../../../etc/hostname", &empty).unwrap();
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    }
}
