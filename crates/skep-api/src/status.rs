//! Errors of other rooms to HTTP statuses: the one place where that is chosen.

use http::StatusCode;
use skep_engine::EngineError;
use skep_manager::ControlError;
use skep_net::NetError;
use skep_node::{NodeError, NotManager};
use skep_types::ErrorKind;

use crate::http::ApiError;

impl ApiError {
    /// The whole chain, with the status of its kind.
    fn of_kind(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let status = StatusCode::from_u16(kind.status());
        Self::from_chain(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        Self::of_kind(error.kind(), &error)
    }
}

impl From<NetError> for ApiError {
    fn from(error: NetError) -> Self {
        Self::of_kind(error.kind(), &error)
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        Self::of_kind(error.kind, &error)
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> Self {
        Self::of_kind(error.kind(), &error)
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
        assert_eq!(control(ErrorKind::AlreadyExists), 409);
        assert_eq!(control(ErrorKind::FailedPrecondition), 400);
        assert_eq!(control(ErrorKind::OutOfSequence), 500);
    }
}
