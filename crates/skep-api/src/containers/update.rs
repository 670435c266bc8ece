use axum::extract::State;
use bollard_stubs::models::ContainerUpdateBody;
use serde_json::json as value;

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, Name, Params, json, no_content};

/// `POST /containers/{id}/rename`.
pub(super) async fn rename(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let name = query.text("name").to_owned();
    finish(async move { app.engine.container_rename(&id, &name).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/update`.
pub(super) async fn update(
    State(app): State<App>,
    Name(id): Name,
    JsonBody(body): JsonBody<ContainerUpdateBody>,
) -> ApiResult {
    let answer = finish(async move { app.engine.container_update(&id, body).await }).await?;
    json(&answer)
}

/// `POST /containers/prune`.
pub(super) async fn prune(State(app): State<App>, query: Params) -> ApiResult {
    let filters = query.known_filters(&["label", "label!", "until"])?;
    let report = finish(async move { app.engine.container_prune(&filters).await }).await?;
    json(&value!({
        "ContainersDeleted": report.containers_deleted,
        "SpaceReclaimed": report.space_reclaimed.unwrap_or(0),
    }))
}
