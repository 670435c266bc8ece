//! A mounted root file system.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// A container's root file system as a detached mount. It goes with its last holder, or with the
/// namespace it was attached in.
#[derive(Debug)]
pub struct Root {
    mount: OwnedFd,
    /// Somebody was given it to attach it, which can be done once.
    taken: AtomicBool,
}

impl Root {
    /// `false` if it was taken before.
    pub(crate) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::Relaxed)
    }

    /// By which this process, and only this one, reaches it.
    pub fn path(&self) -> PathBuf {
        // With the dot, the link is followed also where links are not.
        format!("/proc/self/fd/{}/.", self.mount.as_raw_fd()).into()
    }
}

impl From<OwnedFd> for Root {
    fn from(mount: OwnedFd) -> Self {
        Self { mount, taken: AtomicBool::new(false) }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}
