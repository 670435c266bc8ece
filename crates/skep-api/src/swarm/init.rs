use axum::extract::State;
use serde::Deserialize;
use skep_node::InitRequest;
use skep_types::{ClusterSpec, NodeAvailability};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, json};

/// Body of `POST /swarm/init`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InitBody {
    listen_addr: String,
    advertise_addr: String,
    data_path_addr: String,
    data_path_port: u32,
    force_new_cluster: bool,
    spec: ClusterSpec,
    auto_lock_managers: bool,
    availability: NodeAvailability,
    default_addr_pool: Vec<String>,
    subnet_size: u32,
}

/// `POST /swarm/init`: answers with this node's id.
pub(super) async fn init(State(app): State<App>, JsonBody(body): JsonBody<InitBody>) -> ApiResult {
    let request = InitRequest {
        listen_addr: body.listen_addr,
        advertise_addr: body.advertise_addr,
        data_path_addr: body.data_path_addr,
        data_path_port: body.data_path_port,
        default_addr_pool: body.default_addr_pool,
        subnet_size: body.subnet_size,
        force_new_cluster: body.force_new_cluster,
        autolock: body.auto_lock_managers || body.spec.encryption_config.auto_lock_managers,
        availability: body.availability,
        spec: body.spec,
    };
    // The pool must not be one that leads elsewhere.
    app.engine.net().read_routes().await?;
    json(&finish(async move { app.swarm.init(request).await }).await?)
}
