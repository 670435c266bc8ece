use std::error::Error;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

pub(crate) type ApiResult<T = Response> = Result<T, ApiError>;

/// A refusal as the client sees it: a status and `{"message": …}`.
///
/// Operations of the engine and of the swarm have error families of their own; their way to a status
/// is chosen in `crate::status`, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: the named object does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409: the request contradicts the object's state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 403: never allowed on this object.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 501: Docker has the operation, this daemon does not.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// An error with the text of its whole chain of causes.
    pub fn from_chain(status: StatusCode, error: &(dyn Error + 'static)) -> Self {
        Self::new(status, skep_types::report(error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            // Nothing to do, for example because it runs already. Such an answer has no body.
            return self.status.into_response();
        }
        if self.status.is_server_error() {
            tracing::debug!(status = self.status.as_u16(), error = %self.message, "request failed");
        }
        let mut body = serde_json::json!({ "message": self.message }).to_string();
        body.push('\n');
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
