use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json as value};
use skep_node::SwarmInfo;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, json, to_value};
use crate::swarm::cluster_info;

/// `GET /info`.
pub(super) async fn info(State(app): State<App>) -> ApiResult {
    let mut found = app.engine.system_info().await?;
    let warnings = Arc::clone(&app.warnings);
    let more = tokio::task::spawn_blocking(move || warnings()).await;
    found
        .warnings
        .get_or_insert_default()
        .extend(more.map_err(|e| ApiError::internal(e.to_string()))?);
    let mut info = to_value(&found)?;
    info["Swarm"] = swarm_section(&app, &app.swarm.info().await).await?;
    // Read by clients of 1.49 and older; both are on wherever a bridge's traffic is filtered.
    info["BridgeNfIptables"] = value!(true);
    info["BridgeNfIp6tables"] = value!(true);
    json(&info)
}

/// The `Swarm` section, which every client expects, in a swarm or not.
async fn swarm_section(app: &App, info: &SwarmInfo) -> ApiResult<Value> {
    let managers: Vec<Value> = info
        .remote_managers
        .iter()
        .map(|peer| value!({ "NodeID": peer.node_id, "Addr": peer.addr }))
        .collect();
    let mut section = value!({
        "NodeID": info.node_id,
        "NodeAddr": info.node_addr,
        "LocalNodeState": info.local_state.as_str(),
        "ControlAvailable": info.control_available,
        "Error": info.error,
        "RemoteManagers": if managers.is_empty() { Value::Null } else { Value::Array(managers) },
    });
    if let Some(nodes) = info.nodes {
        section["Nodes"] = nodes.into();
    }
    if let Some(managers) = info.managers {
        section["Managers"] = managers.into();
    }
    if let Some(cluster) = &info.cluster {
        section["Cluster"] = cluster_info(app, cluster).await?;
    }
    Ok(section)
}
