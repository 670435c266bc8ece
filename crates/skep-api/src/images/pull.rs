use std::io;

use axum::body::Body;
use axum::extract::State;
use futures::TryStreamExt as _;
use http::HeaderMap;
use serde_json::json as value;
use skep_engine::PullOptions;
use tokio_util::io::StreamReader;

use super::progress;
use crate::auth::credentials;
use crate::backend::App;
use crate::http::{ApiError, ApiResult, Params};
use crate::stream::{JsonLine, json_lines};

/// `POST /images/create`: pulls from a registry (`fromImage`) or imports a file system (`fromSrc`).
pub(super) async fn create(
    State(app): State<App>,
    query: Params,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    match query.non_empty("fromImage") {
        Some(image) => {
            let options = PullOptions {
                name: image.to_owned(),
                tag: query.non_empty("tag").map(str::to_owned),
                platform: query.non_empty("platform").map(str::to_owned),
                credentials: credentials(&headers)?,
            };
            progress::answer(app.engine.image_pull(options).await?).await
        }
        None => import(&app, &query, body).await,
    }
}

async fn import(app: &App, query: &Params, body: Body) -> ApiResult {
    match query.text("fromSrc") {
        "-" => {}
        "" => return Err(ApiError::bad_request("neither fromImage nor fromSrc is given")),
        source => {
            return Err(ApiError::not_implemented(format!(
                "importing from the URL {source} is not supported: download it and import the file"
            )));
        }
    }
    let reference = query.non_empty("repo").map(|repo| match query.non_empty("tag") {
        Some(tag) => format!("{repo}:{tag}"),
        None => repo.to_owned(),
    });
    let mut changes = query.all("changes").to_vec();
    changes.retain(|change| !change.is_empty());
    let message = query.non_empty("message").map(str::to_owned);
    let archive = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let id = app
        .engine
        .image_import(archive, reference.as_deref(), changes, message, query.non_empty("platform"))
        .await?;
    Ok(json_lines(futures::stream::iter([JsonLine::new(&value!({ "status": id }))])))
}
