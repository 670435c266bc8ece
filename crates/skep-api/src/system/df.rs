use axum::extract::State;
use serde_json::{Map, Value};

use crate::backend::App;
use crate::http::{ApiError, ApiResult, Params, json};

/// `GET /system/df`: what images, containers and volumes take, in bytes.
pub(super) async fn df(State(app): State<App>, query: Params) -> ApiResult {
    let kinds = query.all("type");
    for kind in kinds {
        if !["container", "image", "volume", "build-cache"].contains(&kind.as_str()) {
            return Err(ApiError::bad_request(format!("unknown object type: {kind}")));
        }
    }
    let wanted = |kind: &str| kinds.is_empty() || kinds.iter().any(|k| k == kind);
    let usage = app.engine.system_df().await?;
    let mut answer = Map::new();
    if wanted("image") {
        let usage = usage.image_usage.unwrap_or_default();
        answer.insert("LayersSize".into(), usage.total_size.unwrap_or(0).into());
        answer.insert("Images".into(), items(usage.items));
    }
    if wanted("container") {
        answer.insert("Containers".into(), items(usage.container_usage.unwrap_or_default().items));
    }
    if wanted("volume") {
        answer.insert("Volumes".into(), items(usage.volume_usage.unwrap_or_default().items));
    }
    if wanted("build-cache") {
        answer.insert("BuildCache".into(), Value::Array(Vec::new()));
    }
    json(&answer)
}

fn items(items: Option<Vec<Value>>) -> Value {
    Value::Array(items.unwrap_or_default())
}
