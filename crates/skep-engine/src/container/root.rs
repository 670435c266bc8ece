//! A container's root file system, for operations that look into it from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_image::{MountOptions, Root};
use skep_sys::mounts;

use super::cell::Container;
use super::mounts::MountKind;
use super::record::Record;
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
            Ok(root) => return Ok(Arc::new(root.into())),
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
    pub root: PathBuf,
    /// Path within it, absolute.
    pub path: String,
    /// Whether it is on something that may not be written.
    pub read_only: bool,
    /// Keeps the root there.
    pub _guard: Option<Arc<Root>>,
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
    if record.state.phase.is_running() && record.state.pid > 0 {
        let root = PathBuf::from(format!("/proc/{}/root", record.state.pid));
        return Ok(Place { root, path: clean, read_only, _guard: None });
    }
    match covering.filter(|m| m.kind != MountKind::Tmpfs) {
        Some(mount) => {
            let inner = &clean[mount.destination.len()..];
            let source = Path::new(&mount.source).join(&mount.subpath);
            let source =
                if mount.subpath.is_empty() { PathBuf::from(&mount.source) } else { source };
            // A file that is bound is looked for in its folder.
            if source.is_file() {
                let folder = source.parent().unwrap_or(Path::new("/")).to_owned();
                let name = source
                    .file_name()
                    .map(|n| n.to_string_lossy().into_owned())
                    .unwrap_or_default();
                return Ok(Place {
                    root: folder,
                    path: format!("/{name}"),
                    read_only,
                    _guard: None,
                });
            }
            let path = if inner.is_empty() { "/".to_owned() } else { inner.to_owned() };
            Ok(Place { root: source, path, read_only, _guard: None })
        }
        None => {
            let guard = open(engine, container)?;
            Ok(Place { root: guard.path(), path: clean, read_only, _guard: Some(guard) })
        }
    }
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
