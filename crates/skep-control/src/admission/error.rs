use skep_types::ErrorKind;
use skep_types::check::Malformed;
use thiserror::Error;

/// A refused request. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ControlError {
    pub kind: ErrorKind,
    /// For the user, with the offending value.
    pub message: String,
}

impl From<Malformed> for ControlError {
    fn from(malformed: Malformed) -> Self {
        Self::invalid(malformed.to_string())
    }
}

macro_rules! constructors {
    ($($name:ident $kind:ident),*) => {
        impl ControlError {
            $(pub fn $name(message: impl Into<String>) -> Self {
                Self { kind: ErrorKind::$kind, message: message.into() }
            })*
        }
    };
}

constructors! {
    invalid InvalidParameter,
    not_found NotFound,
    exists AlreadyExists,
    precondition FailedPrecondition,
    conflict OutOfSequence,
    denied Forbidden
}
