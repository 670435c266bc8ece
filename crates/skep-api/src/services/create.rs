use axum::extract::State;
use bollard_stubs::models::EventMessageTypeEnum::SERVICE;
use http::HeaderMap;
use serde_json::{Value, json as value};
use skep_types::{ServiceSpec, TaskSpec};

use crate::auth::registry_auth;
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, RawJson, created, decode_value};
use crate::swarm::announce;

/// `POST /services/create`.
pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    RawJson(body): RawJson,
) -> ApiResult {
    let control = app.control()?;
    let mut spec = spec(body)?;
    if spec.annotations.name.is_empty() {
        spec.annotations.name = skep_engine::random_name(0);
    }
    let auth = registry_auth(&headers);
    if let Some(container) = &mut spec.task_template.container_spec {
        container.registry_auth = auth;
    }
    let service = finish(async move { control.create_service(spec).await }).await?;
    announce(&app, SERVICE, "create", service.id.as_str(), &service.spec.annotations.name);
    created(&value!({ "ID": service.id, "Warnings": null }))
}

/// Old clients send a mode that says nothing, which means the default one.
pub(super) fn spec(mut body: Value) -> ApiResult<ServiceSpec> {
    let unset = |mode: &Value| mode.as_object().is_some_and(|m| m.values().all(Value::is_null));
    if let Some(fields) = body.as_object_mut()
        && fields.get("Mode").is_some_and(unset)
    {
        fields.shift_remove("Mode");
    }
    let mut spec = decode_value(body).map_err(|e| ApiError::bad_request(e.to_string()))?;
    forget_internal(&mut spec);
    forget_defaults(&mut spec.task_template);
    Ok(spec)
}

/// Takes back what the view wrote out. Clients read a service, change it and send it whole: a default
/// that came back as a value would make the tasks' spec another one, and replace every task.
fn forget_defaults(template: &mut TaskSpec) {
    if template.runtime == "container" {
        template.runtime.clear();
    }
    if let Some(container) = &mut template.container_spec
        && container.isolation == "default"
    {
        container.isolation.clear();
    }
}

/// What only the store may set is not taken from a request.
fn forget_internal(spec: &mut ServiceSpec) {
    if let Some(container) = &mut spec.task_template.container_spec {
        container.registry_auth.clear();
    }
    for network in spec.task_template.networks.iter_mut().chain(&mut spec.networks) {
        network.addresses.clear();
    }
}
