use axum::extract::State;
use serde_json::json as value;
use skep_engine::ImageRemoveOptions;

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, Params, Rest, json};

/// `DELETE /images/{name}`.
pub(super) async fn remove(State(app): State<App>, Rest(name): Rest, query: Params) -> ApiResult {
    let options =
        ImageRemoveOptions { force: query.flag("force"), no_prune: query.flag("noprune") };
    json(&finish(async move { app.engine.image_remove(&name, options).await }).await?)
}

/// `POST /images/prune`.
pub(super) async fn prune(State(app): State<App>, query: Params) -> ApiResult {
    let filters = query.known_filters(&["dangling", "label", "label!", "until"])?;
    let report = finish(async move { app.engine.image_prune(&filters).await }).await?;
    json(&value!({
        "ImagesDeleted": report.images_deleted,
        "SpaceReclaimed": report.space_reclaimed.unwrap_or(0),
    }))
}
