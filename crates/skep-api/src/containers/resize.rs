use axum::extract::State;
use http::StatusCode;

use axum::response::{IntoResponse as _, Response};
use skep_engine::Size;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, Name, Params};

/// `POST /containers/{id}/resize`.
pub(super) async fn resize(
    State(app): State<App>,
    Name(id): Name,
    query: Params,
) -> ApiResult<Response> {
    app.engine.container_resize(&id, size(&query)?).await?;
    Ok(StatusCode::OK.into_response())
}

/// A terminal's size: `h` rows and `w` columns.
///
/// # Errors
/// 400 if one is missing or not a number below 65536.
pub(crate) fn size(query: &Params) -> ApiResult<Size> {
    let side = |key: &str| {
        query
            .number::<u16>(key)?
            .ok_or_else(|| ApiError::bad_request(format!("query parameter {key} is missing")))
    };
    Ok(Size { rows: side("h")?, cols: side("w")? })
}
