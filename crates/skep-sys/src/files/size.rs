//! How much a tree holds.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::FileType;

use super::walk::{Visit, Walk};

/// Bytes of everything in an open folder but of folders themselves, each inode once. The tree may be
/// changing.
///
/// # Errors
/// Those of reading folders.
pub fn tree_size(top: OwnedFd) -> io::Result<u64> {
    let (mut sum, mut seen) = (0, HashSet::new());
    let mut walk = Walk::new(top)?;
    while let Some(visit) = walk.step()? {
        let Visit::Entry(name, stat) = visit else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            walk.enter(&name)?;
        } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            sum += u64::try_from(stat.st_size).unwrap_or_default();
        }
    }
    Ok(sum)
}
