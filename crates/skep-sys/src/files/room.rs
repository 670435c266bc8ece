//! Whether a disk takes writes.

use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};
use rustix::io::Errno;

/// `EXT4_SUPER_MAGIC`.
const EXT4_MAGIC: rustix::fs::FsWord = 0xef53;

/// What a file system lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It is mounted read-only, or became so after an error.
    ReadOnly,
    Space,
    /// It has no inode for another file.
    Inodes,
}

/// What the file system at `path` lacks for a new file of `bytes` that anybody may write, which is a little before
/// root lacks it.
///
/// # Errors
/// Those of asking.
pub fn lacks_for_file(path: &Path, bytes: u64) -> io::Result<Option<Lack>> {
    let disk = statvfs(path)?;
    Ok(if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        Some(Lack::ReadOnly)
    } else if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes {
        Some(Lack::Space)
    } else {
        // Without a fixed number of inodes (btrfs) there are said to be none at all.
        (disk.f_files > 0 && disk.f_favail == 0).then_some(Lack::Inodes)
    })
}

/// Asks whether the file system at `path` would take `bytes` more in files that are there, as root may write
/// them.
///
/// # Errors
/// `EROFS` if it is read-only, `ENOSPC` if it has less room; others of asking.
pub fn check_room(path: &Path, bytes: u64) -> io::Result<()> {
    let disk = statvfs(path)?;
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Errno::ROFS.into());
    }
    // What is kept back for root counts: that is who writes.
    let free = disk.f_bfree.saturating_sub(kept_back(statfs(path)?.f_type, disk.f_blocks));
    if free.saturating_mul(disk.f_frsize) < bytes {
        return Err(Errno::NOSPC.into());
    }
    Ok(())
}

/// Of a file system with so many blocks, those that are free and that nobody gets: ext4 keeps one in fifty, 4096
/// at most, for what its own bookkeeping turns out to need (`reserved_clusters` in its sysfs folder).
fn kept_back(kind: rustix::fs::FsWord, blocks: u64) -> u64 {
    if kind == EXT4_MAGIC { (blocks / 50).min(4096) } else { 0 }
}

/// Gives the holes of a file their room on disk, so that writing within its length needs none.
///
/// # Errors
/// Those of `fallocate`: the file's content and length are as they were.
pub fn fill_holes(path: &Path) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_says_so() {
        let temp = tempfile::tempdir().unwrap();
        check_room(temp.path(), 1).unwrap();
        let error = check_room(temp.path(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(lacks_for_file(temp.path(), 1).unwrap(), None);
        assert_eq!(lacks_for_file(temp.path(), u64::MAX).unwrap(), Some(Lack::Space));
        let error = check_room(Path::new("/proc/self/nowhere"), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn ext4_keeps_blocks_for_itself() {
        let tmpfs = 0x0102_1994;
        for (kind, blocks, kept) in [
            (EXT4_MAGIC, 0, 0),
            (EXT4_MAGIC, 10_000, 200),
            (EXT4_MAGIC, 300_000, 4096),
            (EXT4_MAGIC, u64::MAX, 4096),
            (tmpfs, 300_000, 0),
        ] {
            assert_eq!(kept_back(kind, blocks), kept, "{blocks} blocks");
        }
    }

    #[test]
    fn holes_get_their_room() {
        use std::os::unix::fs::MetadataExt as _;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        fill_holes(&path).unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!((file.len(), file.blocks()), (1 << 20, (1 << 20) / 512));
    }
}
