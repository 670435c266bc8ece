use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use skep_manager::ClusterUpdate;
use skep_types::ClusterSpec;

use super::object_version;
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, Params};

/// `POST /swarm/update`.
pub(super) async fn update(
    State(app): State<App>,
    query: Params,
    JsonBody(spec): JsonBody<ClusterSpec>,
) -> ApiResult<Response> {
    let update = ClusterUpdate {
        version: object_version(&query)?,
        spec,
        rotate_worker_token: query.flag("rotateWorkerToken"),
        rotate_manager_token: query.flag("rotateManagerToken"),
        rotate_manager_unlock_key: query.flag("rotateManagerUnlockKey"),
    };
    let control = app.control()?;
    finish(async move { control.update_cluster(update).await }).await?;
    Ok(StatusCode::OK.into_response())
}
