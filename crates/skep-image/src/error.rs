//! Every way an image operation can fail, sorted by family.
//!
//! `Display` never repeats the source: whoever prints walks the chain, or calls [`Error::report`].

use std::{io, path::PathBuf};

use crate::{
    dockerfile::error::ChangeError, platform::PlatformError, reference::ReferenceError,
    registry::error::RegistryError, rw::error::RwError, space::NoSpace, unpack::error::UnpackError,
};
use skep_types::{ErrorKind, report};

/// Result of an image operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure of an operation of [`crate::Images`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No image has this name, id or id prefix.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// An id prefix fits several images.
    #[error("multiple images match the id prefix {0}: give more digits")]
    AmbiguousId(String),
    /// A malformed reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The image is needed by somebody.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A filter that does not exist or has a malformed value.
    #[error("invalid filter '{name}={value}': {reason}")]
    Filter {
        /// Filter name.
        name: String,
        /// Value as given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A malformed `--platform`.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The image exists, for another platform only.
    #[error(
        "image with reference {reference} was found but does not provide the specified platform ({platform})"
    )]
    PlatformMismatch {
        /// Image as named.
        reference: String,
        /// Platform asked for.
        platform: String,
    },
    /// An image archive could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {layer}")]
    Unpack {
        /// Expected diff id, or what the layer is called in its archive.
        layer: String,
        /// Cause.
        #[source]
        source: UnpackError,
    },
    /// A `--change` instruction is wrong.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A registry operation failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A container file system operation failed.
    #[error(transparent)]
    Rw(#[from] RwError),
    /// A file of the store could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Store {
        /// Verb, such as "write".
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file of the store holds what it must not.
    #[error("the image store is damaged: {}: {reason}", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The image, or a layer of it, cannot be read.
    #[error("image {image} is damaged: {reason}; pull or load it again to repair it")]
    DamagedImage {
        /// Short id.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// Another process has the store open.
    #[error("the image store {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// An operation that several callers waited for.
    #[error(transparent)]
    Shared(#[from] Shared),
    /// A background task ended without an answer (the runtime is shutting down).
    #[error("the operation was cancelled")]
    Cancelled,
}

/// Why an image or reference cannot be removed; Docker's texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The last tag of an image which a container uses.
    #[error(
        "conflict: unable to remove repository reference {reference:?} (must force) - container {container} is using its referenced image {image}"
    )]
    ReferenceInUse {
        /// Reference as given.
        reference: String,
        /// Short container id.
        container: String,
        /// Short image id.
        image: String,
    },
    /// Images without a name are not known to be unwanted.
    #[error(
        "the names of images could not be read, so that it is not known which images are wanted: name those that are, then remove {}",
        path.display()
    )]
    NamesLost {
        /// Where the names are that could not be read.
        path: PathBuf,
    },
    /// An image that must stay.
    #[error("conflict: unable to delete {image} ({}) - {reason}", if *.hard { "cannot be forced" } else { "must be forced" })]
    Image {
        /// Short image id.
        image: String,
        /// Force does not help.
        hard: bool,
        /// Docker's explanation.
        reason: String,
    },
}

/// Why an image archive cannot be loaded, saved or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The outer tar or its compression is broken.
    #[error("cannot read the image archive")]
    Read(#[source] io::Error),
    /// A member is malformed.
    #[error("invalid image archive: {member}: {reason}")]
    Invalid {
        /// Name of the member within the archive.
        member: String,
        /// What is wrong.
        reason: String,
    },
    /// A member is not JSON of the expected shape.
    #[error("invalid image archive: {member} is malformed")]
    Json {
        /// Name of the member within the archive.
        member: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// Neither docker-save nor OCI layout.
    #[error("unrecognized image format")]
    Unrecognized,
    /// The format which Docker before 1.10 wrote.
    #[error(
        "image archives without a manifest.json, as written by Docker before 1.10, are not supported"
    )]
    TooOld,
    /// Known, but not readable here.
    #[error("unsupported compression: {0}")]
    Compression(&'static str),
    /// The disk would be full.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// More than the configured limit.
    #[error("the image archive exceeds {what}: {limit}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
}

/// An error that several callers get.
#[derive(Debug, Clone)]
pub struct Shared(pub(crate) std::sync::Arc<Error>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Error {
    /// Shorthand for a failed operation on a file of the store.
    pub(crate) fn store(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Store { action, path, source }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage(_) | Self::PlatformMismatch { .. } => ErrorKind::NotFound,
            Self::AmbiguousId(_)
            | Self::Reference(_)
            | Self::Filter { .. }
            | Self::Platform(_)
            | Self::Change(_) => ErrorKind::InvalidParameter,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Archive(e) => match e {
                ArchiveError::Compression(_) | ArchiveError::TooOld => ErrorKind::NotImplemented,
                ArchiveError::NoSpace(_) => ErrorKind::System,
                _ => ErrorKind::InvalidParameter,
            },
            Self::Unpack { source, .. } => source.kind(),
            Self::Registry(e) => e.kind(),
            Self::Rw(e) => e.kind(),
            Self::Store { .. }
            | Self::Damaged { .. }
            | Self::DamagedImage { .. }
            | Self::Locked(_) => ErrorKind::System,
            Self::Shared(e) => e.0.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// The whole chain in one line, outermost first, joined with ": ".
    pub fn report(&self) -> String {
        report(self)
    }
}
