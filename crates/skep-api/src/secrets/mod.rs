//! Secrets of the swarm. Their data comes in and is never shown.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bollard_stubs::models::EventMessageTypeEnum::SECRET;
use http::StatusCode;
use serde_json::{Value, json as value};
use skep_types::{Secret, SecretSpec};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, Name, Params, created, json, no_content, public_view};
use crate::swarm::{announce, common, object_version};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/secrets", get(list))
        .route("/secrets/create", post(create))
        .route("/secrets/{id}", get(inspect).delete(remove))
        .route("/secrets/{id}/update", post(update))
}

/// `GET /secrets`.
async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let control = app.control()?;
    let filters = query.known_filters(&["id", "label", "name", "names"])?;
    let secrets = control.list_secrets(&common(&filters)).await?;
    json(&secrets.iter().map(view).collect::<ApiResult<Vec<_>>>()?)
}

/// `POST /secrets/create`.
async fn create(State(app): State<App>, JsonBody(spec): JsonBody<SecretSpec>) -> ApiResult {
    let control = app.control()?;
    let secret = finish(async move { control.create_secret(spec).await }).await?;
    announce(&app, SECRET, "create", secret.id.as_str(), &secret.spec.annotations.name);
    created(&value!({ "ID": secret.id }))
}

/// `GET /secrets/{id}`.
async fn inspect(State(app): State<App>, Name(id): Name) -> ApiResult {
    json(&view(&app.control()?.get_secret(&id).await?)?)
}

/// `DELETE /secrets/{id}`.
async fn remove(State(app): State<App>, Name(id): Name) -> ApiResult {
    let control = app.control()?;
    let secret = control.get_secret(&id).await?;
    finish(async move { control.remove_secret(&id).await }).await?;
    announce(&app, SECRET, "remove", secret.id.as_str(), &secret.spec.annotations.name);
    Ok(no_content())
}

/// `POST /secrets/{id}/update`: labels only.
async fn update(
    State(app): State<App>,
    Name(id): Name,
    query: Params,
    JsonBody(spec): JsonBody<SecretSpec>,
) -> ApiResult<Response> {
    let (control, version) = (app.control()?, object_version(&query)?);
    let secret = finish(async move { control.update_secret(&id, version, spec).await }).await?;
    announce(&app, SECRET, "update", secret.id.as_str(), &secret.spec.annotations.name);
    Ok(StatusCode::OK.into_response())
}

/// A secret as the API shows it: without its data.
fn view(secret: &Secret) -> ApiResult<Value> {
    let mut view = public_view(secret)?;
    if let Some(spec) = view.get_mut("Spec").and_then(Value::as_object_mut) {
        spec.shift_remove("Data");
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_never_shown() {
        let mut secret = Secret::default();
        secret.spec.data = b"hush".to_vec().into();
        let view = view(&secret).unwrap();
        assert!(view["Spec"].get("Data").is_none());
        assert!(!view.to_string().contains("aHVzaA"));
    }
}
