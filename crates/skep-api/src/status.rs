//! Errors of other rooms to HTTP statuses: the one place where that is chosen.

use http::StatusCode;
use skep_engine::EngineError;
use skep_manager::{ControlError, ControlErrorKind};
use skep_net::NetError;
use skep_node::{NodeError, NodeErrorKind, NotManager};

use crate::http::ApiError;

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let status = StatusCode::from_u16(error.kind().status());
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.report())
    }
}

impl From<NetError> for ApiError {
    fn from(error: NetError) -> Self {
        let status = match error.kind() {
            skep_net::ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            skep_net::ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            skep_net::ErrorKind::NotFound => StatusCode::NOT_FOUND,
            skep_net::ErrorKind::Conflict => StatusCode::CONFLICT,
            skep_net::ErrorKind::System => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::from_chain(status, &error)
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let status = match error.kind {
            ControlErrorKind::InvalidArgument
            | ControlErrorKind::Ambiguous
            | ControlErrorKind::FailedPrecondition => StatusCode::BAD_REQUEST,
            ControlErrorKind::NotFound => StatusCode::NOT_FOUND,
            ControlErrorKind::AlreadyExists => StatusCode::CONFLICT,
            ControlErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
            ControlErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ControlErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            // Docker answers a stale version with 500; clients know it by its text.
            ControlErrorKind::OutOfSequence | ControlErrorKind::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::from_chain(status, &error)
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> Self {
        let status = match error.kind() {
            NodeErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
            NodeErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            NodeErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            NodeErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::from_chain(status, &error)
    }
}

impl From<NotManager> for ApiError {
    fn from(error: NotManager) -> Self {
        Self::from_chain(StatusCode::SERVICE_UNAVAILABLE, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_dockers() {
        let status = |error: ApiError| error.status.as_u16();
        assert_eq!(status(EngineError::NoSuchContainer("x".into()).into()), 404);
        assert_eq!(status(EngineError::NotModified(String::new()).into()), 304);
        assert_eq!(status(NotManager::Inactive.into()), 503);
        assert_eq!(status(NodeError::AlreadyInSwarm.into()), 503);
        let control = |kind| status(ControlError::new(kind, "m").into());
        assert_eq!(control(ControlErrorKind::AlreadyExists), 409);
        assert_eq!(control(ControlErrorKind::FailedPrecondition), 400);
        assert_eq!(control(ControlErrorKind::OutOfSequence), 500);
    }
}
