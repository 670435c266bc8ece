//! Container file systems.
use std::{io, path::PathBuf};
use crate::error::Kind;
use crate::{Reference, RunConfig};

/// A container's read-write layer and what it lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RwLayer {
    /// Container.
    pub container: String,
    /// Image layers, top first.
    pub lowerdirs: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// Overlayfs's own folder.
    pub work: PathBuf,
    /// Where the root file system appears.
    pub merged: PathBuf,
}

/// How a container's root is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Never sync it to disk (overlayfs `volatile`): for containers that are removed when they
    /// end. Unmounting then does not wait for the disk.
    pub volatile: bool,
    /// SELinux mount label.
    pub label: Option<String>,
}

/// What `commit` makes.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Name to give it.
    pub reference: Option<Reference>,
    /// The image the container was created from: history and defaults come from it.
    pub base: Option<crate::ImageId>,
    /// The container's configuration; laid over the base image's by the caller.
    pub config: RunConfig,
    /// Dockerfile instructions (`--change`), applied last.
    pub changes: Vec<String>,
    /// Author.
    pub author: String,
    /// Comment.
    pub message: String,
    /// The container's command, for the history.
    pub created_by: String,
}

/// Why a container file system operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RwError {
    /// No such read-write layer.
    #[error("no read-write layer for container {0}")]
    NotFound(String),
    /// There is one already.
    #[error("container {0} already has a read-write layer")]
    Exists(String),
    /// A name that cannot be a folder's.
    #[error("invalid container id {0:?}")]
    Name(String),
    /// It is in use.
    #[error("the file system of container {0} is in use")]
    Busy(String),
    /// The kernel or the disk said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl RwError {
    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Exists(_) | Self::Busy(_) => Kind::Conflict,
            Self::Name(_) => Kind::InvalidParameter,
            Self::Io { .. } => Kind::System,
        }
    }
}
