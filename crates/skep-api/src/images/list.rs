use axum::extract::State;
use serde_json::Value;
use skep_engine::ImageListOptions;

use crate::backend::App;
use crate::http::{ApiResult, ApiVersion, Params, json, to_value};

/// `GET /images/json`.
pub(super) async fn list(State(app): State<App>, version: ApiVersion, query: Params) -> ApiResult {
    let mut filters = query.filters()?;
    // A parameter of old, which became a filter in 1.41.
    if let Some(reference) = query.non_empty("filter") {
        filters.add("reference", reference);
    }
    let options = ImageListOptions {
        all: query.flag("all"),
        shared_size: query.flag("shared-size"),
        filters,
    };
    let images = app.engine.image_list(options).await?;
    let mut view = to_value(&images)?;
    if !version.at_least(44)
        && let Some(images) = view.as_array_mut()
    {
        images.iter_mut().for_each(virtual_size);
    }
    json(&view)
}

/// `GET /images/{name}/json`.
pub(super) async fn inspect(app: &App, name: &str, version: ApiVersion) -> ApiResult {
    let mut view = to_value(&app.engine.image_inspect(name).await?)?;
    if !version.at_least(44) {
        virtual_size(&mut view);
    }
    json(&view)
}

/// Until 1.43 the size was shown twice.
fn virtual_size(image: &mut Value) {
    if let Some(size) = image.get("Size").cloned() {
        image["VirtualSize"] = size;
    }
}
