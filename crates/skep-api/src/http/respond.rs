use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::ApiError;

/// 200 with JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Response, ApiError> {
    json_with_status(StatusCode::OK, value)
}

/// 201 with JSON.
pub(crate) fn created<T: Serialize>(value: &T) -> Result<Response, ApiError> {
    json_with_status(StatusCode::CREATED, value)
}

fn json_with_status<T: Serialize>(status: StatusCode, value: &T) -> Result<Response, ApiError> {
    let mut bytes = serde_json::to_vec(value)
        .map_err(|e| ApiError::internal(format!("cannot write the answer as JSON: {e}")))?;
    // Docker's encoder ends every document with a newline, and `curl` users are glad of it.
    bytes.push(b'\n');
    let mut response = (status, bytes).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// 204: done, nothing to say.
pub(crate) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// 200 with plain text.
pub(crate) fn text(text: impl Into<String>) -> Response {
    let mut response = text.into().into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
