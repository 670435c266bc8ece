//! What is in a volume: its size, and filling a new one from an image.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use rustix::fs::{Mode, OFlags};
use skep_container::spec::rootfs;
use skep_sys::files::{copy_tree, names, tree_size};

/// Bytes in a volume's folder, each file once, whatever number of names it has.
///
/// # Errors
/// When a folder in it cannot be read.
pub fn size(dir: &Path) -> io::Result<u64> {
    tree_size(open(dir)?)
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}

/// Copies what `root` (a container's root) has at `path` into the empty volume folder `volume`, with all
/// attributes; also the folder's own. Nothing happens when the volume is not empty or `path` is no folder
/// there.
///
/// The path is resolved within the root, and nothing is followed while copying.
///
/// # Errors
/// When reading or writing fails; what was copied stays.
pub fn copy_up(root: &Path, path: &str, volume: &Path) -> io::Result<()> {
    let volume = open(volume)?;
    if !names(&volume)?.is_empty() {
        return Ok(());
    }
    let source = match rootfs::open(root, Path::new(path), OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(fd) => fd,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    copy_tree(source, volume)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

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
        let strange = std::ffi::OsStr::from_bytes(b"\xff\xfe");
        std::fs::hard_link(root.join("data/sub/file"), root.join("data").join(strange)).unwrap();
        copy_up(&root, "/alias", &volume).unwrap();
        assert_eq!(std::fs::read_to_string(volume.join("sub/file")).unwrap(), "hello");
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&volume.join("sub/file")), inode(&volume.join(strange)));
        assert_eq!(std::fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(std::fs::metadata(&volume).unwrap().permissions().mode() & 0o777, 0o750);
        std::fs::write(root.join("data/later"), "x").unwrap();
        copy_up(&root, "/data", &volume).unwrap();
        assert!(!volume.join("later").exists());
        assert_eq!(size(&volume).unwrap(), 5 + "/etc/passwd".len() as u64);
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        copy_up(&root, "/nothing/here", &empty).unwrap();
        copy_up(&root, "/../../../../etc/hostname", &empty).unwrap();
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    }
}
