use std::io;

use axum::body::Body;
use axum::extract::State;
use futures::TryStreamExt as _;
use tokio_util::io::StreamReader;

use super::progress;
use crate::backend::App;
use crate::http::{ApiError, ApiResult, Params};
use crate::stream::{bytes_of, streamed};

/// `POST /images/load`.
pub(super) async fn load(State(app): State<App>, query: Params, body: Body) -> ApiResult {
    let archive = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    progress::answer(app.engine.image_load(archive, query.flag("quiet")).await?).await
}

/// `GET /images/get?names=…`.
pub(super) async fn save_several(State(app): State<App>, query: Params) -> ApiResult {
    let names = query.all("names").to_vec();
    if names.is_empty() {
        return Err(ApiError::bad_request("query parameter names is missing"));
    }
    save(&app, names).await
}

/// Images as one tar.
pub(super) async fn save(app: &App, names: Vec<String>) -> ApiResult {
    let tar = app.engine.image_save(&names).await?;
    Ok(streamed("application/x-tar", bytes_of(tar)))
}
