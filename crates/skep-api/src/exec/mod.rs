//! Further processes in running containers.

mod start;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bollard_stubs::models::ExecConfig;
use http::StatusCode;
use serde_json::json as value;

use crate::backend::App;
use crate::containers::size;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, Name, Params, RawJson, created, decode_value, json};
use crate::stream::DetachKeys;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start::start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

/// `POST /containers/{id}/exec`.
async fn create(State(app): State<App>, Name(id): Name, RawJson(mut body): RawJson) -> ApiResult {
    crate::containers::normalize_create(&mut body);
    let config: ExecConfig =
        decode_value(body).map_err(|e| ApiError::bad_request(e.to_string()))?;
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad_request("No exec command specified"));
    }
    DetachKeys::parse(config.detach_keys.as_deref().unwrap_or(""))?;
    let exec = finish(async move { app.engine.exec_create(&id, config).await }).await?;
    created(&value!({ "Id": exec.id }))
}

/// `POST /exec/{id}/resize`.
async fn resize(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult<Response> {
    app.engine.exec_resize(&id, size(&query)?).await?;
    Ok(StatusCode::OK.into_response())
}

/// `GET /exec/{id}/json`.
async fn inspect(State(app): State<App>, Name(id): Name) -> ApiResult {
    json(&app.engine.exec_inspect(&id).await?)
}
