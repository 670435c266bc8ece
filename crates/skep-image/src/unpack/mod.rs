//! Tar streams onto the disk, without ever leaving the target folder.
//!
//! Every path is resolved by the kernel below an open descriptor of the target (`openat2` with
//! `RESOLVE_IN_ROOT`), and the last component is only touched with calls that do not follow links.
//! So a symlink in the stream means what it will mean in the container, and nothing outside can be
//! reached, also when several members conspire.

mod entry;
mod tree;
mod whiteout;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    error::Kind,
    settings::Limits,
    tar::{Reader, TarError},
};
use tree::Tree;

/// How a stream is unpacked.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// Turn `.wh.` entries into overlayfs whiteouts and opaque folders. Otherwise they are files
    /// like others.
    pub whiteouts: bool,
    /// Give everything to this user and group instead of the recorded ones.
    pub owner: Option<(u32, u32)>,
    /// Refuse to replace a folder by something else, or something else by a folder (`docker cp`).
    pub keep_kind: bool,
    /// Bounds.
    pub limits: Limits,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Members.
    pub entries: u64,
    /// Bytes of file contents, hard links counted once.
    pub bytes: u64,
}

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
    #[error("not enough space: {free} bytes free, {needed} needed")]
    NoSpace {
        /// Free bytes.
        free: u64,
        /// Bytes needed, with the reserve.
        needed: u64,
    },
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
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSpace { .. } => Kind::System,
            Self::Io { source, .. } if source.raw_os_error().is_some() => Kind::System,
            Self::Compression(_) => Kind::NotImplemented,
            _ => Kind::InvalidParameter,
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

/// Unpacks an uncompressed tar stream into the folder `target`, which must exist. Reads to the end
/// of the archive, not of the stream.
///
/// Needs root for ownership and device nodes. Blocking.
///
/// # Errors
/// [`UnpackError`]; what was unpacked until then stays.
pub fn unpack(
    stream: impl Read,
    target: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    unpack_reader(stream, target, options).map(|(unpacked, _)| unpacked)
}

/// As [`unpack`], giving the stream back.
pub(crate) fn unpack_reader<R: Read>(
    stream: R,
    target: &Path,
    options: &UnpackOptions,
) -> Result<(Unpacked, R), UnpackError> {
    let mut tree = Tree::open(target, options)?;
    let mut reader = Reader::new(stream);
    let mut unpacked = Unpacked::default();
    while let Some(entry) = reader.next()? {
        unpacked.entries += 1;
        if unpacked.entries > options.limits.entries {
            return Err(UnpackError::TooManyEntries(options.limits.entries));
        }
        unpacked.bytes += entry::make(&mut tree, &entry, &mut reader.data())?;
    }
    tree.finish()?;
    Ok((unpacked, reader.into_inner()))
}
