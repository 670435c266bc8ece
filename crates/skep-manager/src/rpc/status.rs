//! Errors of the rooms behind, as gRPC codes: chosen here and nowhere else.

use skep_proto::ConvertError;
use tonic::Status;

use crate::control::{ControlError, ControlErrorKind};
use crate::dispatcher::SessionError;
use crate::logs::PublishError;
use crate::store::WriteError;

/// For `map_err`.
pub(super) fn control(error: ControlError) -> Status {
    let message = error.message;
    match error.kind {
        ControlErrorKind::InvalidArgument | ControlErrorKind::Ambiguous => {
            Status::invalid_argument(message)
        }
        ControlErrorKind::NotFound => Status::not_found(message),
        ControlErrorKind::AlreadyExists => Status::already_exists(message),
        // Docker's code for it; clients match the text.
        ControlErrorKind::OutOfSequence => Status::unknown(message),
        ControlErrorKind::FailedPrecondition => Status::failed_precondition(message),
        ControlErrorKind::PermissionDenied => Status::permission_denied(message),
        ControlErrorKind::Unavailable => Status::unavailable(message),
        ControlErrorKind::Unimplemented => Status::unimplemented(message),
        ControlErrorKind::Internal => Status::internal(message),
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
