//! Tar streams: a strict, bounded reader for foreign bytes, and a writer for our own trees.
//!
//! The reader is our own because the `tar` crate buffers long names and PAX headers without bound,
//! which a compressed bomb turns into memory, and knows nothing of PAX sparse files.

mod header;
pub(crate) mod pack;
mod pax;
mod reader;
mod sparse;

pub(crate) use reader::{Entry, EntryKind, Reader, TarError};
pub(crate) use sparse::Sparse;

/// Everything in a tar stream is padded to this.
pub(crate) const BLOCK: usize = 512;
