use axum::extract::{FromRequestParts, Path, RawPathParams};
use http::request::Parts;

use super::ApiError;

/// The one name or id in a route.
pub(crate) struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // A route with more parameters names its object first.
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::bad_request(e.to_string()))?;
        params
            .iter()
            .next()
            .map(|(_, value)| Self(value.to_owned()))
            .ok_or_else(|| ApiError::not_found("page not found"))
    }
}

/// The rest of a path whose names may hold slashes, as image names do.
pub(crate) struct Rest(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Rest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(rest) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::bad_request(e.body_text()))?;
        Ok(Self(rest))
    }
}
