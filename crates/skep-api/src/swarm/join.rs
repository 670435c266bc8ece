use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use skep_node::JoinRequest;
use skep_types::NodeAvailability;

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, Params};

/// Body of `POST /swarm/join`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct JoinBody {
    listen_addr: String,
    advertise_addr: String,
    data_path_addr: String,
    remote_addrs: Vec<String>,
    join_token: String,
    availability: NodeAvailability,
}

/// `POST /swarm/join`.
pub(super) async fn join(
    State(app): State<App>,
    JsonBody(body): JsonBody<JoinBody>,
) -> ApiResult<Response> {
    let request = JoinRequest {
        listen_addr: body.listen_addr,
        advertise_addr: body.advertise_addr,
        data_path_addr: body.data_path_addr,
        remote_addrs: body.remote_addrs,
        token: body.join_token,
        availability: body.availability,
    };
    finish(async move { app.swarm.join(request).await }).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /swarm/leave`.
pub(super) async fn leave(State(app): State<App>, query: Params) -> ApiResult<Response> {
    let force = query.flag("force");
    finish(async move { app.swarm.leave(force).await }).await?;
    Ok(StatusCode::OK.into_response())
}
