//! Why a container file system operation failed.

use std::{io, path::PathBuf};

use skep_types::ErrorKind;

use crate::tar::pack::MAX_PATH;

/// Why a container file system operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RwError {
    /// No such read-write layer.
    #[error("no read-write layer for container {0}")]
    NotFound(String),
    /// It is not known what it lies on.
    #[error(
        "what the container's root lies on is not known: repair {}, a link that names the image's top layer, or \
         remove the container",
        .0.display()
    )]
    Lost(PathBuf),
    /// There is one already.
    #[error("container {0} already has a read-write layer")]
    Exists(String),
    /// A name that cannot be a folder's.
    #[error("invalid container id {0:?}")]
    Name(String),
    /// It is in use.
    #[error("the file system of container {0} is in use")]
    Busy(String),
    /// What it lies on is not whole.
    #[error(
        "image layer {0} is damaged; repair its layer.json, or pull or load an image that has it"
    )]
    DamagedLayer(String),
    /// A path in it is longer than an archive can name.
    #[error("{0}... is nested too deeply: an archive can name paths of up to {MAX_PATH} bytes")]
    TooDeep(String),
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
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Exists(_) | Self::Busy(_) => ErrorKind::Conflict,
            Self::Name(_) | Self::TooDeep(_) => ErrorKind::InvalidParameter,
            Self::Io { .. } | Self::DamagedLayer(_) | Self::Lost(_) => ErrorKind::System,
        }
    }

    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
