//! Shims found among the processes of the host, not by their sockets.
//!
//! A shim that does not answer, or whose bundle is gone, can still be found and ended this way. It tells
//! its bundle by its command line.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How the kernel knows a shim; see [`crate::shim`].
const COMM: &[u8] = b"skep-shim\n";
/// How long a killed shim may take to be gone, in milliseconds. It holds nothing that takes time.
const END_LIMIT: u16 = 5_000;

/// A shim, or what it forked and has not yet become another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShimProcess {
    pid: i32,
    bundle: PathBuf,
}

impl ShimProcess {
    /// All shims of this host with bundles in `folder`, which is spelled as it was for
    /// [`crate::CreateRequest::bundle`]. Blocks for some microseconds for each process of the host.
    ///
    /// # Errors
    /// When processes cannot be listed or looked at: then it is not known which there are.
    pub fn all_in(folder: &Path) -> io::Result<Vec<ShimProcess>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(bundle) = bundle_of(pid)?.filter(|bundle| bundle.parent() == Some(folder)) {
                all.push(ShimProcess { pid, bundle });
            }
        }
        Ok(all)
    }

    /// Whether there is a shim for this bundle, answering or not. Blocks.
    ///
    /// # Errors
    /// As [`ShimProcess::all_in`].
    pub fn is_there(bundle: &Path) -> io::Result<bool> {
        let Some(folder) = bundle.parent() else { return Ok(false) };
        Ok(Self::all_in(folder)?.iter().any(|shim| shim.bundle == bundle))
    }

    /// Ends whatever shim there is for this bundle, answering or not. Blocks. The container's
    /// processes go on: [`crate::Runtime::clean_up`] ends those.
    ///
    /// # Errors
    /// When processes cannot be listed, or one does not end.
    pub fn end_of(bundle: &Path) -> io::Result<()> {
        let Some(folder) = bundle.parent() else { return Ok(()) };
        for shim in Self::all_in(folder)?.into_iter().filter(|shim| shim.bundle == bundle) {
            shim.end()?;
        }
        Ok(())
    }

    /// The bundle that it was started with. It may be gone.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Kills it and waits until it is gone. Does nothing if it has ended meanwhile. Blocks.
    ///
    /// # Errors
    /// `TimedOut` if it does not end; whatever the kernel says.
    pub fn end(&self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            other => other?,
        };
        // The number may be another process's by now; from here on it cannot become one.
        if bundle_of(self.pid)?.as_ref() != Some(&self.bundle) {
            return Ok(());
        }
        match pidfd_send_signal(&process, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            other => other?,
        }
        let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ended, PollTimeout::from(END_LIMIT))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

/// The bundle of a shim of this host; `None` for other processes, and for one that has just ended.
///
/// # Errors
/// When the process cannot be looked at, for want of descriptors for example.
fn bundle_of(pid: i32) -> io::Result<Option<PathBuf>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let read = |file: &str| match std::fs::read(process.join(file)) {
        Err(error) if has_ended(&error) => Ok(None),
        other => other.map(Some),
    };
    if read("comm")?.as_deref() != Some(COMM) {
        return Ok(None);
    }
    let Some(line) = read("cmdline")? else { return Ok(None) };
    let mut words = line.split(|byte| *byte == 0).skip(1);
    let (Some(name), Some(bundle)) = (words.next(), words.next()) else { return Ok(None) };
    let bundle = PathBuf::from(OsStr::from_bytes(bundle));
    Ok((name == b"shim" && is_of_this_host(&process, &bundle)).then_some(bundle))
}

/// Whether an error of `/proc` says that the process is gone.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether its paths mean here what they mean there: another host of this kernel may have a bundle of
/// the same name. After a restart of a service that has a mount namespace of its own, the bundle itself
/// tells, which every shim has as its working folder.
fn is_of_this_host(process: &Path, bundle: &Path) -> bool {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
    let file = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let same_namespace =
        namespace(process).is_some_and(|ns| Some(ns) == namespace(Path::new("/proc/self")));
    same_namespace || file(&process.join("cwd")).is_some_and(|cwd| Some(cwd) == file(bundle))
}
