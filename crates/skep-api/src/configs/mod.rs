//! Configs of the swarm.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bollard_stubs::models::EventMessageTypeEnum::CONFIG;
use http::StatusCode;
use serde_json::{Value, json as value};
use skep_types::{Config, ConfigSpec};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, Name, Params, created, json, no_content, public_view};
use crate::swarm::{announce, common, object_version};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/configs", get(list))
        .route("/configs/create", post(create))
        .route("/configs/{id}", get(inspect).delete(remove))
        .route("/configs/{id}/update", post(update))
}

/// `GET /configs`.
async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let control = app.control()?;
    let filters = query.known_filters(&["id", "label", "name", "names"])?;
    let configs = control.list_configs(&common(&filters)).await?;
    json(&configs.iter().map(view).collect::<ApiResult<Vec<_>>>()?)
}

/// `POST /configs/create`.
async fn create(State(app): State<App>, JsonBody(spec): JsonBody<ConfigSpec>) -> ApiResult {
    let control = app.control()?;
    let config = finish(async move { control.create_config(spec).await }).await?;
    announce(&app, CONFIG, "create", config.id.as_str(), &config.spec.annotations.name);
    created(&value!({ "ID": config.id }))
}

/// `GET /configs/{id}`.
async fn inspect(State(app): State<App>, Name(id): Name) -> ApiResult {
    json(&view(&app.control()?.get_config(&id).await?)?)
}

/// `DELETE /configs/{id}`.
async fn remove(State(app): State<App>, Name(id): Name) -> ApiResult {
    let control = app.control()?;
    let config = control.get_config(&id).await?;
    finish(async move { control.remove_config(&id).await }).await?;
    announce(&app, CONFIG, "remove", config.id.as_str(), &config.spec.annotations.name);
    Ok(no_content())
}

/// `POST /configs/{id}/update`: labels only.
async fn update(
    State(app): State<App>,
    Name(id): Name,
    query: Params,
    JsonBody(spec): JsonBody<ConfigSpec>,
) -> ApiResult<Response> {
    let (control, version) = (app.control()?, object_version(&query)?);
    let config = finish(async move { control.update_config(&id, version, spec).await }).await?;
    announce(&app, CONFIG, "update", config.id.as_str(), &config.spec.annotations.name);
    Ok(StatusCode::OK.into_response())
}

fn view(config: &Config) -> ApiResult<Value> {
    public_view(config)
}
