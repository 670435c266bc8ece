use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json as value;

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, json};

/// Body of `POST /swarm/unlock`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UnlockBody {
    unlock_key: String,
}

/// `GET /swarm/unlockkey`.
pub(super) async fn unlock_key(State(app): State<App>) -> ApiResult {
    json(&value!({ "UnlockKey": app.control()?.unlock_key().await? }))
}

/// `POST /swarm/unlock`.
pub(super) async fn unlock(
    State(app): State<App>,
    JsonBody(body): JsonBody<UnlockBody>,
) -> ApiResult<Response> {
    finish(async move { app.swarm.unlock(&body.unlock_key).await }).await?;
    Ok(StatusCode::OK.into_response())
}
