use axum::body::Body;
use axum::extract::State;
use skep_engine::{RemoveOptions, StopOptions};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, Name, Params, no_content};
use crate::stream::DetachKeys;

/// A body as small as this is `{}` or `null` and accepted, as Docker does for old clients.
const EMPTY_DOCUMENT: u64 = 7;

/// `POST /containers/{id}/start`.
pub(super) async fn start(
    State(app): State<App>,
    Name(id): Name,
    query: Params,
    body: Body,
) -> ApiResult {
    if hyper::body::Body::size_hint(&body).upper().is_none_or(|size| size > EMPTY_DOCUMENT) {
        return Err(ApiError::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and \
             removed in v1.24",
        ));
    }
    DetachKeys::parse(query.text("detachKeys"))?;
    finish(async move { app.engine.container_start(&id).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/stop`.
pub(super) async fn stop(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let options = stop_options(&query)?;
    finish(async move { app.engine.container_stop(&id, options).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/restart`.
pub(super) async fn restart(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let options = stop_options(&query)?;
    finish(async move { app.engine.container_restart(&id, options).await }).await?;
    Ok(no_content())
}

fn stop_options(query: &Params) -> ApiResult<StopOptions> {
    Ok(StopOptions {
        signal: query.non_empty("signal").map(str::to_owned),
        timeout: query.number("t")?,
    })
}

/// `POST /containers/{id}/kill`.
pub(super) async fn kill(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let signal = query.non_empty("signal").map(str::to_owned);
    finish(async move { app.engine.container_kill(&id, signal.as_deref()).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/pause`.
pub(super) async fn pause(State(app): State<App>, Name(id): Name) -> ApiResult {
    finish(async move { app.engine.container_pause(&id).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/unpause`.
pub(super) async fn unpause(State(app): State<App>, Name(id): Name) -> ApiResult {
    finish(async move { app.engine.container_unpause(&id).await }).await?;
    Ok(no_content())
}

/// `DELETE /containers/{id}`.
pub(super) async fn remove(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let options = RemoveOptions {
        force: query.flag("force"),
        volumes: query.flag("v"),
        link: query.flag("link"),
    };
    finish(async move { app.engine.container_remove(&id, options).await }).await?;
    Ok(no_content())
}
