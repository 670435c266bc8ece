//! Volumes of this host.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use bollard_stubs::models::VolumeCreateRequest;
use http::HeaderMap;
use serde_json::json as value;

use crate::backend::App;
use crate::finish::finish;
use crate::http::{
    ApiError, ApiResult, ApiVersion, JsonBody, Name, Params, created, json, no_content, to_value,
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).delete(remove).put(update))
}

/// `GET /volumes`.
async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let filters = query.known_filters(&["dangling", "name", "driver", "label", "label!"])?;
    let volumes = app.engine.volume_list(&filters).await?;
    let shown = to_value(&volumes.volumes.unwrap_or_default())?;
    json(&value!({ "Volumes": shown, "Warnings": volumes.warnings }))
}

/// `POST /volumes/create`. An empty body asks for an anonymous volume.
async fn create(State(app): State<App>, headers: HeaderMap, body: Body) -> ApiResult {
    let request: VolumeCreateRequest =
        JsonBody::optional(&headers, body).await?.unwrap_or_default();
    if request.cluster_volume_spec.is_some() {
        return Err(ApiError::not_implemented("cluster volumes are not supported by this daemon"));
    }
    created(&finish(async move { app.engine.volume_create(request).await }).await?)
}

/// `GET /volumes/{name}`.
async fn inspect(State(app): State<App>, Name(name): Name) -> ApiResult {
    json(&to_value(&app.engine.volume_inspect(&name).await?)?)
}

/// `DELETE /volumes/{name}`.
async fn remove(State(app): State<App>, Name(name): Name, query: Params) -> ApiResult {
    let force = query.flag("force");
    finish(async move { app.engine.volume_remove(&name, force).await }).await?;
    Ok(no_content())
}

/// `PUT /volumes/{name}`: Docker's is for cluster volumes alone.
async fn update() -> ApiResult {
    Err(ApiError::not_implemented("cluster volumes are not supported by this daemon"))
}

/// `POST /volumes/prune`. Until 1.41 named volumes were removed as well.
async fn prune(State(app): State<App>, version: ApiVersion, query: Params) -> ApiResult {
    let mut filters = query.known_filters(&["label", "label!", "all"])?;
    if !version.at_least(42) && !filters.has("all") {
        filters.add("all", "true");
    }
    let report = finish(async move { app.engine.volume_prune(&filters).await }).await?;
    json(&value!({
        "VolumesDeleted": report.volumes_deleted,
        "SpaceReclaimed": report.space_reclaimed.unwrap_or(0),
    }))
}
