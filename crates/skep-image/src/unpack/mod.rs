//! Tar streams onto the disk, without ever leaving the target folder.
//!
//! Every path is resolved by the kernel below an open descriptor of the target (`openat2` with
//! `RESOLVE_IN_ROOT`), and the last component is only touched with calls that do not follow links.
//! So a symlink in the stream means what it will mean in the container, and nothing outside can be
//! reached, also when several members conspire.

mod entry;
pub(crate) mod error;
mod tree;
mod whiteout;

use std::{io::Read, os::fd::OwnedFd, path::Path};

pub use error::UnpackError;

use crate::{compress::decoder, error::ArchiveError, settings::Limits, tar::Reader};
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

/// Unpacks a tar stream, plain or compressed with gzip or zstd, into a folder of a root that somebody else may
/// be using and changing (`docker cp`). Links lead where they lead with `root` as `/`; `folder` is a path in
/// it. An entry for the folder itself changes nothing. Mount points are not replaced: a mounted file gets the
/// new content, anything else there is refused.
///
/// Needs root for ownership and device nodes. Blocking.
///
/// # Errors
/// [`UnpackError`]; what was unpacked until then stays.
pub fn unpack_in(
    stream: impl Read + Send,
    root: OwnedFd,
    folder: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let (_, stream) = decoder(stream).map_err(|error| match error {
        ArchiveError::Compression(name) => UnpackError::Compression(name),
        ArchiveError::Read(source) => UnpackError::Read(source),
        other => UnpackError::Malformed(other.to_string()),
    })?;
    let folder = folder.strip_prefix("/").unwrap_or(folder);
    all(stream, Tree::new(root, folder, true, options)?).map(|(unpacked, _)| unpacked)
}

/// As [`unpack`], giving the stream back.
pub(crate) fn unpack_reader<R: Read>(
    stream: R,
    target: &Path,
    options: &UnpackOptions,
) -> Result<(Unpacked, R), UnpackError> {
    all(stream, Tree::open(target, options)?)
}

fn all<R: Read>(stream: R, mut tree: Tree<'_>) -> Result<(Unpacked, R), UnpackError> {
    let limits = &tree.options.limits;
    let mut reader = Reader::new(stream);
    let mut unpacked = Unpacked::default();
    while let Some(entry) = reader.next()? {
        unpacked.entries += 1;
        if unpacked.entries > limits.entries {
            return Err(UnpackError::TooManyEntries(limits.entries));
        }
        unpacked.bytes += entry::make(&mut tree, &entry, &mut reader.data())?;
    }
    tree.finish()?;
    Ok((unpacked, reader.into_inner()))
}
