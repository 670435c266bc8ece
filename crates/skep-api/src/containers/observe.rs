use axum::extract::State;
use futures::StreamExt as _;
use skep_engine::StatsOptions;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, Name, Params, json};
use crate::stream::{JsonLine, json_lines};

/// What `ps` is asked for when the client does not say.
const PS_ARGS: &str = "-ef";

/// `GET /containers/{id}/top`.
pub(super) async fn top(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let args = query.non_empty("ps_args").unwrap_or(PS_ARGS);
    json(&app.engine.container_top(&id, args).await?)
}

/// `GET /containers/{id}/stats`: one sample each second, or one in all.
pub(super) async fn stats(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let options =
        StatsOptions { stream: query.flag_or("stream", true), one_shot: query.flag("one-shot") };
    if options.stream && options.one_shot {
        return Err(ApiError::bad_request("cannot have stream=true and one-shot=true"));
    }
    let samples = app.engine.container_stats(&id, options).await?;
    Ok(json_lines(samples.map(|sample| match sample {
        Ok(sample) => JsonLine::new(&sample),
        Err(error) => JsonLine::error(&error.into()),
    })))
}

/// `GET /containers/{id}/changes`.
pub(super) async fn changes(State(app): State<App>, Name(id): Name) -> ApiResult {
    json(&app.engine.container_changes(&id).await?)
}
