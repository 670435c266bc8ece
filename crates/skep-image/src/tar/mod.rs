//! Tar streams.
pub(crate) mod pack;
