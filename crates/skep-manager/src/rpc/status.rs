//! Errors of the rooms behind, as gRPC codes: chosen here and nowhere else.

use skep_proto::ConvertError;
use skep_types::ErrorKind;
use tonic::{Code, Status};

use crate::control::ControlError;
use crate::dispatcher::SessionError;
use crate::logs::PublishError;
use crate::store::WriteError;

/// For `map_err`.
pub(super) fn control(error: ControlError) -> Status {
    Status::new(code(error.kind), error.message)
}

/// SwarmKit's code of an error.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidParameter | ErrorKind::Ambiguous => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::NotModified | ErrorKind::Conflict | ErrorKind::FailedPrecondition => {
            Code::FailedPrecondition
        }
        // Clients match the text.
        ErrorKind::OutOfSequence => Code::Unknown,
        ErrorKind::Unauthorized => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::System => Code::Internal,
        ErrorKind::NotImplemented => Code::Unimplemented,
        ErrorKind::Unavailable => Code::Unavailable,
    }
}

pub(super) fn write(error: WriteError) -> Status {
    control(error.into())
}

pub(super) fn session(error: SessionError) -> Status {
    match error {
        SessionError::Invalid => Status::invalid_argument(error.to_string()),
        SessionError::NotRegistered => Status::not_found(error.to_string()),
        SessionError::TooOften => Status::unavailable(error.to_string()),
    }
}

pub(super) fn publish(error: PublishError) -> Status {
    match error {
        PublishError::Unknown => Status::not_found(error.to_string()),
    }
}

pub(super) fn convert(error: ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_swarmkits() {
        for (kind, expected) in [
            (ErrorKind::InvalidParameter, Code::InvalidArgument),
            (ErrorKind::Ambiguous, Code::InvalidArgument),
            (ErrorKind::NotFound, Code::NotFound),
            (ErrorKind::AlreadyExists, Code::AlreadyExists),
            (ErrorKind::OutOfSequence, Code::Unknown),
            (ErrorKind::FailedPrecondition, Code::FailedPrecondition),
            (ErrorKind::Forbidden, Code::PermissionDenied),
            (ErrorKind::Unavailable, Code::Unavailable),
            (ErrorKind::NotImplemented, Code::Unimplemented),
            (ErrorKind::System, Code::Internal),
        ] {
            let status = control(ControlError::new(kind, "why"));
            assert_eq!((status.code(), status.message()), (expected, "why"), "{kind:?}");
        }
    }
}
