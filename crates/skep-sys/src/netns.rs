//! Network namespaces: made, pinned to a path, entered.
//!
//! `setns` changes one thread, so whoever enters does so on a thread that ends
//! with the work: no other code can ever find itself in the wrong namespace.

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

/// The calling thread's namespace; `/proc/self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";
/// `NSFS_MAGIC`: file system of namespace files.
const NSFS: FsType = FsType(0x6e73_6673);

/// A network namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
}

impl NetNs {
    /// The calling thread's.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// The one pinned at `path`. A file that is no namespace (what is left of a pin
    /// after a reboot) is `InvalidData`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        if fstatfs(&fd)?.filesystem_type() != NSFS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a namespace"));
        }
        Ok(Self { fd })
    }

    /// Makes a new one that goes with its last handle.
    pub fn anonymous() -> io::Result<Self> {
        thread::scope(|scope| {
            let made = scope.spawn(|| -> io::Result<Self> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                Self::current()
            });
            joined(made)
        })
    }

    /// Makes a new one, pinned at `path`, whose folder must exist. A leftover plain
    /// file there is used; a pinned namespace there is an `AlreadyExists`.
    pub fn create(path: &Path) -> io::Result<Self> {
        if Self::open(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        OpenOptions::new().create(true).append(true).mode(0o444).open(path)?;
        thread::scope(|scope| {
            let made = scope.spawn(|| -> io::Result<Self> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                mount(Some(Path::new(OWN)), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                Self::current()
            });
            joined(made)
        })
    }

    /// Pins this namespace at `path`, whose folder must exist.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).mode(0o444).open(path)?;
        let own = format!("/proc/thread-self/fd/{}", self.fd.as_raw_fd());
        mount(Some(Path::new(&own)), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    }

    /// Takes the pin at `path` away; the namespace goes with its last user. Nothing
    /// there is not an error.
    pub fn remove(path: &Path) -> io::Result<()> {
        match umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: a plain file, nothing mounted.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether two handles are of one namespace.
    pub fn is_same(&self, other: &Self) -> io::Result<bool> {
        let inode = |ns: &Self| -> io::Result<(u64, u64)> {
            let meta = std::fs::File::from(ns.fd.try_clone()?).metadata()?;
            Ok((meta.dev(), meta.ino()))
        };
        Ok(inode(self)? == inode(other)?)
    }

    /// Moves the calling thread inside, from wherever it was. Only for threads that end with the work.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.fd, CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `work` inside, on a thread of its own. What it opens (sockets, processes) belongs to the
    /// namespace for good. Blocks until it is done.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let done = scope.spawn(|| -> io::Result<T> {
                self.enter()?;
                Ok(work())
            });
            joined(done)
        })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A panic inside is passed on to the caller, as if it had run the work itself.
fn joined<T>(handle: thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
