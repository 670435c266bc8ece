//! The instructions of `--change`.
/// Why an instruction is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChangeError(pub String);
/// Applies Dockerfile instructions to a configuration.
#[allow(clippy::unimplemented)]
pub fn apply(_config: &mut crate::RunConfig, _changes: &[String]) -> Result<(), ChangeError> { unimplemented!() }
