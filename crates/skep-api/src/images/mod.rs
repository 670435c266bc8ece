//! Images of this host.

mod archive;
mod list;
mod progress;
mod pull;
mod push;
mod registry;
mod remove;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, ApiVersion, Params, Rest, json};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/images/json", get(list::list))
        .route("/images/create", post(pull::create))
        .route("/images/load", post(archive::load))
        .route("/images/get", get(archive::save_several))
        .route("/images/prune", post(remove::prune))
        // Names hold slashes, so the operation is found behind the name.
        .route("/images/{*name}", get(read).post(change).delete(remove::remove))
        .route("/distribution/{*name}", get(registry::distribution))
}

/// Splits `library/web/json` into name and operation.
fn split(rest: &str) -> ApiResult<(&str, &str)> {
    rest.rsplit_once('/').ok_or_else(|| ApiError::not_found("page not found"))
}

/// `GET /images/{name}/json`, `history`, `get`.
async fn read(State(app): State<App>, Rest(rest): Rest, version: ApiVersion) -> ApiResult {
    match split(&rest)? {
        (name, "json") => list::inspect(&app, name, version).await,
        (name, "history") => json(&app.engine.image_history(name).await?),
        (name, "get") => archive::save(&app, vec![name.to_owned()]).await,
        _ => Err(ApiError::not_found("page not found")),
    }
}

/// `POST /images/{name}/tag`, `push`.
async fn change(
    State(app): State<App>,
    Rest(rest): Rest,
    query: Params,
    headers: HeaderMap,
) -> ApiResult {
    match split(&rest)? {
        (name, "tag") => tag(app, name, &query).await,
        (name, "push") => push::push(&app, name, &query, &headers).await,
        _ => Err(ApiError::not_found("page not found")),
    }
}

async fn tag(app: App, name: &str, query: &Params) -> ApiResult<Response> {
    let (name, repo, tag) =
        (name.to_owned(), query.text("repo").to_owned(), query.text("tag").to_owned());
    finish(async move { app.engine.image_tag(&name, &repo, &tag).await }).await?;
    Ok(StatusCode::CREATED.into_response())
}
