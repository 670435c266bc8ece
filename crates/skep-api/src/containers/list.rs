use axum::extract::State;
use skep_engine::ListOptions;

use super::view;
use crate::backend::App;
use crate::http::{ApiResult, ApiVersion, Name, Params, json};

/// `GET /containers/json`.
pub(super) async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let mut filters = query.filters()?;
    // Parameters of old, which became filters.
    for key in ["since", "before"] {
        if let Some(container) = query.non_empty(key) {
            filters.add(key, container);
        }
    }
    let limit = query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let options = ListOptions {
        all: query.flag("all"),
        limit: limit.filter(|limit| *limit > 0),
        size: query.flag("size"),
        filters,
    };
    json(&app.engine.container_list(options).await?)
}

/// `GET /containers/{id}/json`.
pub(super) async fn inspect(
    State(app): State<App>,
    Name(id): Name,
    version: ApiVersion,
    query: Params,
) -> ApiResult {
    let container = app.engine.container_inspect(&id, query.flag("size")).await?;
    json(&view::container(&container, version)?)
}
