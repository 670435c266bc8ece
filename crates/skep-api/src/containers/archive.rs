use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt as _;
use http::{HeaderName, HeaderValue, StatusCode};
use skep_engine::{PathStat, PutArchiveOptions};
use tokio_util::io::StreamReader;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, Name, Params};
use crate::stream::{bytes_of, streamed};

const STAT_HEADER: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

fn path(query: &Params) -> ApiResult<String> {
    query
        .non_empty("path")
        .map(str::to_owned)
        .ok_or_else(|| ApiError::bad_request("query parameter path is missing or empty"))
}

/// `HEAD /containers/{id}/archive`: what a path is.
pub(super) async fn stat(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let stat = app.engine.container_archive_stat(&id, &path(&query)?).await?;
    with_stat(StatusCode::OK.into_response(), &stat)
}

/// `GET /containers/{id}/archive`: a path as a tar.
pub(super) async fn get(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let (stat, tar) = app.engine.container_archive_get(&id, &path(&query)?).await?;
    with_stat(streamed("application/x-tar", bytes_of(tar)), &stat)
}

/// `PUT /containers/{id}/archive`: unpacks a tar below a path.
pub(super) async fn put(
    State(app): State<App>,
    Name(id): Name,
    query: Params,
    body: Body,
) -> ApiResult {
    let path = path(&query)?;
    let options = PutArchiveOptions {
        no_overwrite_dir_non_dir: query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: query.flag("copyUIDGID"),
    };
    let archive = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    app.engine.container_archive_put(&id, &path, options, archive).await?;
    Ok(StatusCode::OK.into_response())
}

fn with_stat(mut response: Response, stat: &PathStat) -> ApiResult {
    let text = serde_json::to_vec(stat).map(|json| STANDARD.encode(json));
    let value = text.ok().and_then(|text| HeaderValue::try_from(text).ok());
    let Some(value) = value else {
        return Err(ApiError::internal("cannot write the path's description as a header"));
    };
    response.headers_mut().insert(STAT_HEADER, value);
    Ok(response)
}
