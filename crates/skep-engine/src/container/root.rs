//! A container's root file system, for operations that look into it from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_image::MountOptions;

use super::cell::Container;
use super::mounts::MountKind;
use super::record::Record;
use crate::engine::Engine;
use crate::error::{EngineError, Result};

/// A root that is there as long as this is. Blocks when made and dropped.
pub struct RootGuard {
    engine: Engine,
    container: Arc<Container>,
    /// The overlay as mounted on the host, without what the container mounts in it.
    pub merged: PathBuf,
}

impl RootGuard {
    /// Mounts the root of a container, or joins those who use it already.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn open(engine: &Engine, container: &Arc<Container>) -> Result<Self> {
        container.live(|l| l.root_users += 1);
        match engine.inner.images.mount(&container.id, MountOptions::default()) {
            Ok(rw) => {
                Ok(Self { engine: engine.clone(), container: container.clone(), merged: rw.merged })
            }
            Err(error) => {
                container.live(|l| l.root_users -= 1);
                Err(error.into())
            }
        }
    }
}

impl Drop for RootGuard {
    fn drop(&mut self) {
        let last = self.container.live(|l| {
            l.root_users -= 1;
            l.root_users == 0
        });
        // Whoever holds the lock starts it, clears it up or removes it, and unmounts in due course.
        let Ok(_op) = self.container.op.try_lock() else { return };
        if last
            && !self.container.phase().is_running()
            && let Err(error) = self.engine.inner.images.unmount(&self.container.id)
        {
            tracing::warn!(
                container = self.container.id,
                error = &error as &dyn std::error::Error,
                "could not unmount a container's root"
            );
        }
    }
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
    pub _guard: Option<RootGuard>,
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
            let guard = RootGuard::open(engine, container)?;
            Ok(Place { root: guard.merged.clone(), path: clean, read_only, _guard: Some(guard) })
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
