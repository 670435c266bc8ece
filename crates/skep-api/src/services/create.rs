use axum::extract::State;
use bollard_stubs::models::EventMessageTypeEnum::SERVICE;
use http::HeaderMap;
use serde_json::json as value;
use skep_types::ServiceSpec;

use crate::auth::registry_auth;
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, JsonBody, created};
use crate::swarm::announce;

/// `POST /services/create`.
pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(mut spec): JsonBody<ServiceSpec>,
) -> ApiResult {
    let control = app.control()?;
    forget_internal(&mut spec);
    let auth = registry_auth(&headers);
    if let Some(container) = &mut spec.task_template.container_spec {
        container.registry_auth = auth;
    }
    let service = finish(async move { control.create_service(spec).await }).await?;
    announce(&app, SERVICE, "create", service.id.as_str(), &service.spec.annotations.name);
    created(&value!({ "ID": service.id, "Warnings": null }))
}

/// What only the store may set is not taken from a request.
pub(super) fn forget_internal(spec: &mut ServiceSpec) {
    if let Some(container) = &mut spec.task_template.container_spec {
        container.registry_auth.clear();
    }
    for network in spec.task_template.networks.iter_mut().chain(&mut spec.networks) {
        network.addresses.clear();
    }
}
