//! Tar streams onto the disk, safely.
use crate::error::Kind;
/// Why a tar stream cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct UnpackError;
impl UnpackError { pub(crate) fn kind(&self) -> Kind { Kind::System } }
