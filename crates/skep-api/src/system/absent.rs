//! Operations of Docker that this daemon does not have. Lists are empty; the rest says so.

use axum::Router;
use axum::routing::{any, get, post};
use serde_json::json as value;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, Name, json};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/plugins", get(no_plugins))
        .route("/plugins/privileges", get(plugins))
        .route("/plugins/pull", post(plugins))
        .route("/plugins/create", post(plugins))
        .route("/plugins/{*rest}", any(no_such_plugin))
        .route("/build", post(build))
        .route("/build/cancel", post(build))
        .route("/build/prune", post(prune_build_cache))
        .route("/session", post(session))
        .route("/grpc", post(session))
        .route("/images/search", get(search))
}

async fn no_plugins() -> ApiResult {
    json(&value!([]))
}

async fn plugins() -> ApiResult {
    Err(ApiError::not_implemented("plugins are not supported by this daemon"))
}

async fn no_such_plugin(Name(rest): Name) -> ApiResult {
    let name = rest.rsplit_once('/').map_or(rest.as_str(), |(name, _)| name);
    Err(ApiError::not_found(format!("plugin \"{name}\" not found")))
}

async fn build() -> ApiResult {
    Err(ApiError::not_implemented(
        "this daemon does not build images: build elsewhere and use docker load or docker pull",
    ))
}

async fn session() -> ApiResult {
    Err(ApiError::not_implemented("this daemon has no builder to open a session with"))
}

async fn search() -> ApiResult {
    Err(ApiError::not_implemented("searching registries is not supported by this daemon"))
}

/// There is never anything to remove.
async fn prune_build_cache() -> ApiResult {
    json(&value!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
}
