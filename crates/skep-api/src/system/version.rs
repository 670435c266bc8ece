use axum::extract::State;

use crate::backend::App;
use crate::http::{ApiResult, MAX_VERSION, MIN_VERSION, json};

/// `GET /version`.
pub(super) async fn version(State(app): State<App>) -> ApiResult {
    let mut version = app.engine.system_version();
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    version.version = Some(app.product.version.clone());
    version.api_version = Some(MAX_VERSION.to_string());
    version.min_api_version = Some(MIN_VERSION.to_string());
    version.git_commit = known(&app.product.commit).or(version.git_commit);
    version.build_time = known(&app.product.built).or(version.build_time);
    version.go_version.get_or_insert_default();
    version.os.get_or_insert_with(|| "linux".to_owned());
    version.experimental = None;
    if let Some(platform) = &mut version.platform
        && platform.name.is_empty()
    {
        platform.name.clone_from(&app.product.name);
    }
    json(&version)
}
