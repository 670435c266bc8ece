//! Room on the disk of the store, before something is written to it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::{fs::fstatvfs, io::Errno};

use crate::settings::Limits;

/// The disk would be full, or nearly so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough space: {free} bytes free, {} needed ({bytes}, and {reserve} that have to stay free)",
    .bytes.saturating_add(*.reserve)
)]
pub struct NoSpace {
    /// Free bytes.
    pub free: u64,
    /// Bytes to be written.
    pub bytes: u64,
    /// Bytes that have to stay free, whatever is written.
    pub reserve: u64,
}

/// Looks whether `bytes` can be written to the file system of `folder` so that the limits' reserve stays free.
pub(crate) fn check(
    folder: impl AsFd,
    bytes: u64,
    limits: &Limits,
) -> Result<Result<(), NoSpace>, Errno> {
    let reserve = limits.min_free_bytes;
    if reserve == 0 {
        return Ok(Ok(()));
    }
    let stat = fstatvfs(folder)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let enough = free >= bytes.saturating_add(reserve);
    Ok(if enough { Ok(()) } else { Err(NoSpace { free, bytes, reserve }) })
}

/// Bytes written between two looks at the free space.
pub(crate) const STEP: u64 = 16 << 20;

/// A file of a length that is not known before: looks at the free space as it grows.
pub(crate) struct Growing<'a> {
    file: File,
    limits: &'a Limits,
    unchecked: u64,
}

impl<'a> Growing<'a> {
    pub(crate) fn new(file: File, limits: &'a Limits) -> Self {
        // The first byte is looked at.
        Self { file, limits, unchecked: STEP }
    }
}

impl Write for Growing<'_> {
    /// The error is a [`NoSpace`] inside of an [`io::Error`] when the disk would be full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unchecked >= STEP {
            check(&self.file, bytes.len() as u64, self.limits)?.map_err(io::Error::other)?;
            self.unchecked = 0;
        }
        let written = self.file.write(bytes)?;
        self.unchecked += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_stays_free_and_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let look = |bytes, min_free_bytes| {
            let limits = Limits { min_free_bytes, ..Limits::default() };
            check(File::open(temp.path()).unwrap(), bytes, &limits).unwrap()
        };
        assert_eq!(look(u64::MAX, 0), Ok(()));
        assert_eq!(look(1, 1), Ok(()));
        for (bytes, reserve) in [(1, u64::MAX), (u64::MAX, 1)] {
            let refused = look(bytes, reserve).unwrap_err().to_string();
            let told =
                format!("{} needed ({bytes}, and {reserve} that have to stay free)", u64::MAX);
            assert!(refused.contains(&told), "{refused}");
        }
    }
    #[test]
    fn a_growing_file_is_refused_before_the_disk_is_full() {
        let write = |min_free_bytes| {
            let limits = Limits { min_free_bytes, ..Limits::default() };
            let mut file = Growing::new(tempfile::tempfile().unwrap(), &limits);
            file.write_all(b"content")
        };
        write(0).unwrap();
        write(1).unwrap();
        let refused = write(u64::MAX).unwrap_err();
        assert!(refused.get_ref().is_some_and(|e| e.is::<NoSpace>()), "{refused:?}");
    }
}
