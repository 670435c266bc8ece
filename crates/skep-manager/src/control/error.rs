use skep_types::ErrorKind;
use thiserror::Error;

/// Why a call of [`crate::Control`] did nothing. `message` is Docker's text where Docker has one and
/// is fit to be shown to the user as it is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ControlError {
    pub kind: ErrorKind,
    pub message: String,
}

impl ControlError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    pub fn not_found(what: &str, reference: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} {reference} not found"))
    }
}
