use axum::extract::State;
use serde_json::json as value;
use skep_engine::Filters;
use skep_manager::{ModeFilter, ServiceFilter};
use skep_types::{Service, ServiceId};

use super::view;
use crate::backend::App;
use crate::http::{ApiError, ApiResult, Name, Params, json};
use crate::swarm::common;

/// `GET /services`, with counts of tasks if `status` is asked for.
pub(super) async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let control = app.control()?;
    let filters = query.known_filters(&["id", "label", "mode", "name", "runtime"])?;
    let mut services = control.list_services(&service_filter(&filters)?).await?;
    services.retain(|service| filters.exact("runtime", runtime(service)));
    let mut views = services.iter().map(view::service).collect::<ApiResult<Vec<_>>>()?;
    if query.flag("status") {
        let ids: Vec<ServiceId> = services.iter().map(|service| service.id.clone()).collect();
        let counts = control.service_task_counts(&ids).await?;
        for (view, id) in views.iter_mut().zip(&ids) {
            let counts = counts.get(id).copied().unwrap_or_default();
            view["ServiceStatus"] = value!({
                "RunningTasks": counts.running,
                "DesiredTasks": counts.desired,
                "CompletedTasks": counts.completed,
            });
        }
    }
    json(&views)
}

/// What runs a service's tasks; no word is the default one.
fn runtime(service: &Service) -> &str {
    match service.spec.task_template.runtime.as_str() {
        "" => "container",
        named => named,
    }
}

fn service_filter(filters: &Filters) -> ApiResult<ServiceFilter> {
    let modes = filters.get("mode").iter().map(|mode| match mode.as_str() {
        "replicated" => Ok(ModeFilter::Replicated),
        "global" => Ok(ModeFilter::Global),
        "replicated-job" => Ok(ModeFilter::ReplicatedJob),
        "global-job" => Ok(ModeFilter::GlobalJob),
        other => Err(ApiError::bad_request(format!("invalid filter 'mode={other}'"))),
    });
    Ok(ServiceFilter { common: common(filters), modes: modes.collect::<ApiResult<_>>()? })
}

/// `GET /services/{id}`.
pub(super) async fn inspect(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let service = app.control()?.get_service(&id, query.flag("insertDefaults")).await?;
    json(&view::service(&service)?)
}
