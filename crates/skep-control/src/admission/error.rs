use skep_types::check::Malformed;
use thiserror::Error;

/// What a caller should make of a refusal; doors map it to a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlErrorKind {
    /// The request is wrong by itself.
    InvalidArgument,
    NotFound,
    AlreadyExists,
    /// The request is fine but the swarm's state forbids it.
    FailedPrecondition,
    /// The object changed since the caller read it: read again, then retry.
    Conflict,
    PermissionDenied,
}

/// A refused request. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ControlError {
    pub kind: ControlErrorKind,
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
                Self { kind: ControlErrorKind::$kind, message: message.into() }
            })*
        }
    };
}

constructors! {
    invalid InvalidArgument,
    not_found NotFound,
    exists AlreadyExists,
    precondition FailedPrecondition,
    conflict Conflict,
    denied PermissionDenied
}
