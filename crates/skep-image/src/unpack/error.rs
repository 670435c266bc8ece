//! Why a stream cannot be unpacked.

use std::{io, path::PathBuf};

use crate::{space::NoSpace, tar::TarError};
use skep_types::ErrorKind;

/// Why a stream cannot be unpacked. What was made before stays; the caller removes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The bytes are no tar stream.
    #[error("{0}")]
    Malformed(String),
    /// The stream broke off or could not be decompressed.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// A name climbs out of the target.
    #[error("{0:?} points outside of the target")]
    Escape(String),
    /// A member that cannot be made.
    #[error("invalid entry {path:?}: {reason}")]
    Entry {
        /// Its path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// More entries than allowed.
    #[error("more than {0} entries")]
    TooManyEntries(u64),
    /// The disk would be full.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// The content is not what its digest says.
    #[error("the content has the digest {actual} instead of {expected}")]
    Digest {
        /// Digest it should have.
        expected: String,
        /// Digest it has.
        actual: String,
    },
    /// Compression that is not read here.
    #[error("unsupported compression: {0}")]
    Compression(&'static str),
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb.
        action: &'static str,
        /// Path within the target.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSpace { .. } => ErrorKind::System,
            Self::Io { source, .. } if source.raw_os_error().is_some() => ErrorKind::System,
            Self::Compression(_) => ErrorKind::NotImplemented,
            _ => ErrorKind::InvalidParameter,
        }
    }
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read(source) => Self::Read(source),
            malformed => Self::Malformed(malformed.to_string()),
        }
    }
}
