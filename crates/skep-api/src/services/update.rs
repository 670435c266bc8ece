use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bollard_stubs::models::EventMessageTypeEnum::SERVICE;
use http::{HeaderMap, StatusCode};
use serde_json::json as value;
use skep_manager::{RegistryAuth, ServiceUpdate};

use super::create::spec;
use crate::auth::registry_auth;
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, Name, Params, RawJson, json};
use crate::swarm::{announce, object_version};

/// `POST /services/{id}/update`.
pub(super) async fn update(
    State(app): State<App>,
    Name(id): Name,
    query: Params,
    headers: HeaderMap,
    RawJson(body): RawJson,
) -> ApiResult {
    let control = app.control()?;
    let update = ServiceUpdate {
        version: object_version(&query)?,
        spec: spec(body)?,
        registry_auth: auth_source(&query, &headers)?,
        rollback: rollback(&query)?,
    };
    let service = finish(async move { control.update_service(&id, update).await }).await?;
    announce(&app, SERVICE, "update", service.id.as_str(), &service.spec.annotations.name);
    json(&value!({ "Warnings": null }))
}

fn auth_source(query: &Params, headers: &HeaderMap) -> ApiResult<RegistryAuth> {
    let new = registry_auth(headers);
    match query.text("registryAuthFrom") {
        _ if !new.is_empty() => Ok(RegistryAuth::New(new)),
        "" | "spec" => Ok(RegistryAuth::FromSpec),
        "previous-spec" => Ok(RegistryAuth::FromPreviousSpec),
        other => {
            Err(ApiError::bad_request(format!("unsupported registryAuthFrom value: {other:?}")))
        }
    }
}

fn rollback(query: &Params) -> ApiResult<bool> {
    match query.text("rollback") {
        "" | "none" => Ok(false),
        "previous" => Ok(true),
        other => Err(ApiError::bad_request(format!("unrecognized rollback option {other}"))),
    }
}

/// `DELETE /services/{id}`.
pub(super) async fn remove(State(app): State<App>, Name(id): Name) -> ApiResult<Response> {
    let control = app.control()?;
    let service = control.get_service(&id, false).await?;
    let reference = service.id.to_string();
    finish(async move { control.remove_service(&reference).await }).await?;
    announce(&app, SERVICE, "remove", service.id.as_str(), &service.spec.annotations.name);
    Ok(StatusCode::OK.into_response())
}
