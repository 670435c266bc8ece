//! A container's root file system, for operations that look into it from outside.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use skep_image::{MountOptions, Root};
use skep_sys::files::{Beneath, open_beneath};
use skep_sys::mounts;

use super::cell::Container;
use super::mounts::MountKind;
use super::record::Record;
use super::subpath;
use crate::engine::Engine;
use crate::error::{EngineError, Result};

/// The root of a container without what is mounted in it, there as long as this is held. Blocks when
/// made and dropped.
///
/// # Errors
/// When it cannot be mounted.
pub fn open(engine: &Engine, container: &Arc<Container>) -> Result<Arc<Root>> {
    let running =
        |r: &Record| (r.state.phase.is_running() && r.state.pid > 0).then_some(r.state.pid);
    if let Some(pid) = container.read(running) {
        // It is mounted in the container's own namespace only.
        match mounts::copy_root_of(pid) {
            Ok(root) if is_process(&container.id, pid)? => return Ok(Arc::new(root.into())),
            Ok(_) => {}
            // It has ended, and that is about to be known.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(EngineError::File {
                    action: "look into",
                    path: format!("/proc/{pid}/root").into(),
                    source,
                });
            }
        }
    }
    Ok(engine.inner.images.mount(&container.id, MountOptions::default())?)
}

/// A path in a container, and what to resolve it against.
pub struct Place {
    /// Directory to take as `/`.
    pub root: OwnedFd,
    /// Path within it, absolute.
    pub path: String,
    /// Whether it is on something that may not be written.
    pub read_only: bool,
    /// Keeps the root there.
    pub _guard: Option<Arc<Root>>,
}

impl Place {
    /// Opens a path, with the root as `/`.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        open_beneath(&self.root, Path::new(path), flags, Beneath::AsRoot)
    }

    /// The file system at `/dev`, if that is one that the runtime has made: its nodes are the host's. Its user's
    /// own is a mount like others.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn devices(&self, record: &Record) -> io::Result<Vec<u64>> {
        let mounts = record.mounts.iter().map(|m| m.destination.as_str());
        let tmpfs = record.host_config.tmpfs.iter().flat_map(|all| all.keys().map(String::as_str));
        if mounts.chain(tmpfs).any(|at| super::merge::clean(at) == "/dev") {
            return Ok(Vec::new());
        }
        let dev = match self.open("/dev", OFlags::PATH | OFlags::DIRECTORY) {
            Ok(dev) => fstat(&dev)?.st_dev,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        Ok(if dev == fstat(&self.root)?.st_dev { Vec::new() } else { vec![dev] })
    }

    /// The root as a path, as long as this is there.
    pub fn root_path(&self) -> PathBuf {
        fd_path(&self.root)
    }
}

/// What is open, as a path.
pub fn fd_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The root of a container's process, as that process sees it. `None` if there is no process of this number
/// in the container: it has ended, and its number may be another's by now.
///
/// # Errors
/// Those of `/proc`.
fn of_process(id: &str, pid: i32) -> io::Result<Option<OwnedFd>> {
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound
            || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
    };
    let look = || -> io::Result<Option<OwnedFd>> {
        // One process behind all three, whoever gets the number next.
        let process = open_folder(&PathBuf::from(format!("/proc/{pid}")))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&process, "root", flags, Mode::empty())?;
        let groups = openat(&process, "cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let groups = io::read_to_string(std::fs::File::from(groups))?;
        Ok(groups.lines().any(|line| line.split('/').any(|part| part == id)).then_some(root))
    };
    match look() {
        Err(error) if gone(&error) => Ok(None),
        other => other,
    }
}

/// As [`of_process`].
///
/// # Errors
/// File errors.
pub fn process_root(id: &str, pid: i32) -> Result<Option<OwnedFd>> {
    of_process(id, pid).map_err(EngineError::file("open the root of", format!("/proc/{pid}")))
}

/// Whether the process of this number is in the container. Asked after something was done by the number, the
/// answer holds for that, too: a container keeps its first process until its end.
pub(super) fn is_process(id: &str, pid: i32) -> Result<bool> {
    process_root(id, pid).map(|root| root.is_some())
}

/// Where to look for a path: in the running container as it sees itself; in a stopped one in its root,
/// or in the volume or bind mount that would cover the path.
///
/// # Errors
/// When the root cannot be mounted.
pub fn locate(
    engine: &Engine,
    container: &Arc<Container>,
    record: &Record,
    path: &str,
) -> Result<Place> {
    let clean = super::merge::clean(path);
    let covering = record
        .mounts
        .iter()
        .filter(|m| clean == m.destination || clean.starts_with(&format!("{}/", m.destination)))
        .max_by_key(|m| m.destination.len());
    let read_only = match covering {
        Some(mount) => !mount.rw,
        None => record.host_config.readonly_rootfs.unwrap_or(false),
    };
    if record.state.phase.is_running()
        && record.state.pid > 0
        && let Some(root) = process_root(&container.id, record.state.pid)?
    {
        return Ok(Place { root, path: clean, read_only, _guard: None });
    }
    let Some(mount) = covering.filter(|m| m.kind != MountKind::Tmpfs) else {
        let guard = open(engine, container)?;
        let root = open_folder(&guard.path())
            .map_err(EngineError::file("open the root of", &container.id))?;
        return Ok(Place { root, path: clean, read_only, _guard: Some(guard) });
    };
    let source = Path::new(&mount.source);
    let shown = source.join(&mount.subpath);
    let failed = |source| EngineError::File { action: "access path", path: shown.clone(), source };
    let inner = &clean[mount.destination.len()..];
    let (root, path) = mounted(source, &mount.subpath, inner).map_err(failed)?;
    Ok(Place { root, path, read_only, _guard: None })
}

/// What to resolve a path in a mount against, and the path in that. A file that is mounted is looked for in
/// its folder.
fn mounted(source: &Path, subpath: &str, inner: &str) -> io::Result<(OwnedFd, String)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let (top, inside) = match subpath {
        "" => {
            // The host's path is the user's choice; what is in it is not.
            let source = std::fs::canonicalize(source)?;
            let top = rustix::fs::open(&source, flags, Mode::empty())?;
            if is_folder(&top)? {
                (top, String::new())
            } else {
                let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (open_folder(source.parent().unwrap_or(Path::new("/")))?, name)
            }
        }
        subpath => {
            let top = subpath::part_of(source, subpath)?;
            if is_folder(&top)? {
                (top, String::new())
            } else {
                let (folder, name) = subpath.rsplit_once('/').unwrap_or((".", subpath));
                (subpath::part_of(source, folder)?, name.to_owned())
            }
        }
    };
    let path = format!("/{inside}{inner}");
    Ok((top, super::merge::clean(&path)))
}

fn is_folder(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// An error of looking a path up, in Docker's words.
pub fn lookup_error(error: std::io::Error, path: &str, container: &str) -> EngineError {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            EngineError::NoSuchPath { path: path.to_owned(), container: container.to_owned() }
        }
        std::io::ErrorKind::NotADirectory => {
            EngineError::Invalid(format!("not a directory: {path}"))
        }
        _ => EngineError::File { action: "look up", path: path.into(), source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_containers_only_in_its_control_group() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(of_process(&"a".repeat(64), own).unwrap().is_none());
        assert!(of_process("any", i32::MAX).unwrap().is_none());
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        if let Some(group) =
            groups.lines().filter_map(|l| l.rsplit('/').next()).find(|g| !g.is_empty())
        {
            assert!(of_process(group, own).unwrap().is_some(), "{groups}");
        }
    }
}
