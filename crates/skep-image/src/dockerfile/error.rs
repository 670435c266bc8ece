//! Why an instruction is wrong.

/// Why an instruction is wrong; Docker's texts where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// No Dockerfile instruction.
    #[error("dockerfile parse error on line 1: unknown instruction: {0}")]
    Unknown(String),
    /// An instruction that cannot change an existing image.
    #[error("{0} is not a valid change command")]
    NotAChange(String),
    /// Nothing follows the instruction.
    #[error("{0} requires at least one argument")]
    MissingArgument(&'static str),
    /// More follows than there may be.
    #[error("{0} requires exactly one argument")]
    OneArgument(&'static str),
    /// Wrong argument.
    #[error("{instruction}: {argument:?}: {reason}")]
    Argument {
        /// Instruction.
        instruction: &'static str,
        /// What was given.
        argument: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

pub(super) fn bad(instruction: &'static str, argument: &str, reason: &'static str) -> ChangeError {
    ChangeError::Argument { instruction, argument: argument.into(), reason }
}
