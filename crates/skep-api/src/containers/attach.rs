use axum::body::Body;
use axum::extract::State;
use skep_engine::AttachOptions;

use super::multiplexed_or_raw;
use crate::backend::App;
use crate::http::{ApiError, ApiResult, ApiVersion, Name, Params};
use crate::stream::{DetachKeys, Takeover, pump};

/// `POST /containers/{id}/attach`.
pub(super) async fn attach(
    State(app): State<App>,
    Name(id): Name,
    version: ApiVersion,
    query: Params,
    takeover: Takeover,
    body: Body,
) -> ApiResult {
    let keys = DetachKeys::parse(query.text("detachKeys"))?;
    let options = AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let session = app.engine.container_attach(&id, options).await?;
    let content_type = multiplexed_or_raw(session.tty, version);
    Ok(takeover.answer(content_type, body, |client| pump(session, client, keys)))
}

/// `GET /containers/{id}/attach/ws`.
pub(super) async fn websocket() -> ApiResult {
    Err(ApiError::not_implemented(
        "attaching by WebSocket is not supported by this daemon: use POST /containers/{id}/attach",
    ))
}
