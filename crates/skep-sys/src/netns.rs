//! Network namespaces: made, pinned to a path, entered.
//!
//! `setns` changes one thread, so whoever enters does so on a thread that ends
//! with the work: no other code can ever find itself in the wrong namespace.

use crate::mounts::attach;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The calling thread's namespace; `/proc/self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";
/// `NSFS_MAGIC`: file system of namespace files.
pub(crate) const NSFS: FsType = FsType(0x6e73_6673);

/// `SIOCGSKNS` of `linux/sockios.h`: a descriptor of a socket's network namespace.
const NAMESPACE_OF_SOCKET: nix::libc::Ioctl = 0x894c;

/// A network namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub struct NetNs {
    handle: Mutex<Handle>,
}

/// What a namespace is reached by.
enum Handle {
    Own(OwnedFd),
    /// A socket that was opened inside, and is open anyway.
    Socket(Arc<dyn AsFd + Send + Sync>),
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Socket(_) => "Socket",
        })
    }
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
        Ok(Self { handle: Mutex::new(Handle::Own(fd)) })
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

    /// Pins this namespace at `path`, whose folder must exist.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.fd()?, path)
    }

    /// Takes the pin at `path` away; the namespace goes with its last user. Nothing
    /// there is not an error.
    pub fn remove(path: &Path) -> io::Result<()> {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: a plain file or a link, nothing mounted.
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
        Ok(inode(self.fd()?)? == inode(other.fd()?)?)
    }

    /// A descriptor of it.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        match &*self.lock() {
            Handle::Own(fd) => fd.try_clone(),
            Handle::Socket(socket) => namespace_of(socket.as_fd()),
        }
    }

    /// Is reached by a socket from now on, which was opened inside, and holds no descriptor of its own. Needs
    /// CAP_NET_ADMIN in the namespace.
    ///
    /// # Errors
    /// `InvalidInput` for a socket of another namespace. It then stays as it was.
    pub fn reach_by(&self, socket: Arc<dyn AsFd + Send + Sync>) -> io::Result<()> {
        if inode(namespace_of(socket.as_fd())?)? != inode(self.fd()?)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        *self.lock() = Handle::Socket(socket);
        Ok(())
    }

    /// Holds a descriptor of its own again, and no socket.
    pub fn reach_by_itself(&self) -> io::Result<()> {
        let fd = self.fd()?;
        *self.lock() = Handle::Own(fd);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the calling thread inside, from wherever it was. Only for threads that end with the work.
    pub fn enter(&self) -> io::Result<()> {
        match &*self.lock() {
            Handle::Own(fd) => setns(fd, CloneFlags::CLONE_NEWNET)?,
            Handle::Socket(socket) => {
                setns(namespace_of(socket.as_fd())?, CloneFlags::CLONE_NEWNET)?;
            }
        }
        Ok(())
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

/// Pins a namespace at `path`, whose folder must exist.
pub fn pin(ns: OwnedFd, path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o444).open(path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    attach(open_tree(ns, "", flags)?, path)
}

fn inode(fd: OwnedFd) -> io::Result<(u64, u64)> {
    let meta = std::fs::File::from(fd).metadata()?;
    Ok((meta.dev(), meta.ino()))
}

fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and touches no memory of ours.
    let fd = unsafe { nix::libc::ioctl(socket.as_raw_fd(), NAMESPACE_OF_SOCKET) };
    let fd = nix::errno::Errno::result(fd)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(fd)
}

/// A panic inside is passed on to the caller, as if it had run the work itself.
fn joined<T>(handle: thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_namespace_is_reached_by_a_socket_as_by_itself() {
        let bind = || UdpSocket::bind(("0.0.0.0", 0)).expect("socket");
        let (ns, other) = (NetNs::anonymous().expect("one"), NetNs::anonymous().expect("another"));
        let stranger = other.run(bind).expect("inside");
        let refusal = ns.reach_by(Arc::new(stranger)).expect_err("not of this one");
        assert_eq!(refusal.kind(), io::ErrorKind::InvalidInput);

        let socket = Arc::new(ns.run(bind).expect("inside"));
        let before = ns.fd().expect("descriptor");
        ns.reach_by(Arc::<UdpSocket>::clone(&socket)).expect("reach");
        assert_eq!(Arc::strong_count(&socket), 2);
        let same = |fd: OwnedFd| {
            inode(fd).expect("inode") == inode(before.try_clone().expect("fd")).expect("inode")
        };
        assert!(same(ns.fd().expect("descriptor")));
        let inside = ns.run(|| NetNs::current().and_then(|ns| ns.fd())).expect("inside");
        assert!(same(inside.expect("its own")));
        assert!(!ns.is_same(&other).expect("compare"));

        ns.reach_by_itself().expect("reach");
        assert_eq!(Arc::strong_count(&socket), 1);
        drop(socket);
        assert!(same(ns.fd().expect("descriptor")));
    }
}
