use axum::extract::State;
use serde_json::{Map, Value, json as value};
use skep_types::Cluster;

use crate::backend::App;
use crate::http::{ApiResult, json, public_view};

/// `GET /swarm`: the swarm with its join tokens.
pub(super) async fn inspect(State(app): State<App>) -> ApiResult {
    let control = app.control()?;
    let cluster = control.cluster().await?;
    let mut view = cluster_info(&app, &cluster).await?;
    let tokens = control.join_tokens().await?;
    view["JoinTokens"] = value!({ "Worker": tokens.worker, "Manager": tokens.manager });
    json(&view)
}

/// The swarm as `info` shows it: without tokens, and never with keys.
pub(crate) async fn cluster_info(app: &App, cluster: &Cluster) -> ApiResult<Value> {
    let mut view = public_view(cluster)?;
    if let Some(ca) = view.pointer_mut("/Spec/CAConfig").and_then(Value::as_object_mut) {
        ca.shift_remove("SigningCACert");
        ca.shift_remove("SigningCAKey");
    }
    view["RootRotationInProgress"] = cluster.root_ca.root_rotation.is_some().into();
    view["TLSInfo"] = tls_info(app, cluster).await?;
    Ok(view)
}

/// The trust root, and who signs certificates now; while that cannot be told the root alone.
async fn tls_info(app: &App, cluster: &Cluster) -> ApiResult<Value> {
    if let Ok(control) = app.swarm.control()
        && let Ok(Some(info)) = control.tls_info().await
    {
        return public_view(&info);
    }
    let mut info = Map::new();
    let root = String::from_utf8_lossy(&cluster.root_ca.ca_cert.0);
    if !root.is_empty() {
        info.insert("TrustRoot".into(), root.into());
    }
    Ok(Value::Object(info))
}
