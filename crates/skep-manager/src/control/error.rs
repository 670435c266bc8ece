use thiserror::Error;

/// What the caller should make of a [`ControlError`]; a door turns it into its own status once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlErrorKind {
    /// The request is wrong and stays wrong: 400, `InvalidArgument`.
    InvalidArgument,
    /// No such object: 404, `NotFound`.
    NotFound,
    /// A prefix or name matches several objects: 400, `InvalidArgument`.
    Ambiguous,
    /// Name in use: 409, `AlreadyExists`.
    AlreadyExists,
    /// The object changed since the version that the caller named: read again and retry. Docker
    /// answers 500 with the text `update out of sequence`; `Unknown` on gRPC.
    OutOfSequence,
    /// The swarm's state forbids it now: 400 or 409, `FailedPrecondition`.
    FailedPrecondition,
    /// 403, `PermissionDenied`.
    PermissionDenied,
    /// No leader, or the manager is stopping: retry later. 503, `Unavailable`.
    Unavailable,
    /// 501, `Unimplemented`.
    Unimplemented,
    /// A fault of ours; the message names what failed. 500, `Internal`.
    Internal,
}

/// Why a call of [`crate::Control`] did nothing. `message` is Docker's text where Docker has one and
/// is fit to be shown to the user as it is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ControlError {
    pub kind: ControlErrorKind,
    pub message: String,
}

impl ControlError {
    pub fn new(kind: ControlErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ControlErrorKind::InvalidArgument, message)
    }

    pub fn not_found(what: &str, reference: &str) -> Self {
        Self::new(ControlErrorKind::NotFound, format!("{what} {reference} not found"))
    }
}
