//! Tasks of services.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::Value;
use skep_engine::Filters;
use skep_manager::{DesiredStateFilter, LogSelector, TaskFilter};
use skep_types::Task;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, ApiVersion, Name, Params, json, public_view};
use crate::services::{swarm_logs, task_spec};
use crate::swarm::common;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/tasks", get(list))
        .route("/tasks/{id}", get(inspect))
        .route("/tasks/{id}/logs", get(logs))
}

/// `GET /tasks`.
async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let control = app.control()?;
    let filters = query.known_filters(&[
        "id",
        "label",
        "name",
        "node",
        "service",
        "desired-state",
        "_up-to-date",
        "runtime",
    ])?;
    let tasks = control.list_tasks(&task_filter(&filters)?).await?;
    json(&tasks.iter().map(view).collect::<ApiResult<Vec<_>>>()?)
}

fn task_filter(filters: &Filters) -> ApiResult<TaskFilter> {
    let desired = filters.get("desired-state").iter().map(|state| match state.as_str() {
        "running" => Ok(DesiredStateFilter::Running),
        "shutdown" => Ok(DesiredStateFilter::Shutdown),
        "accepted" => Ok(DesiredStateFilter::Accepted),
        other => Err(ApiError::bad_request(format!("invalid filter 'desired-state={other}'"))),
    });
    Ok(TaskFilter {
        common: common(filters),
        services: filters.get("service").to_vec(),
        nodes: filters.get("node").to_vec(),
        desired_states: desired.collect::<ApiResult<_>>()?,
        up_to_date: filters.flag("_up-to-date", false)?,
    })
}

/// `GET /tasks/{id}`.
async fn inspect(State(app): State<App>, Name(id): Name) -> ApiResult {
    json(&view(&app.control()?.get_task(&id).await?)?)
}

/// `GET /tasks/{id}/logs`.
async fn logs(
    State(app): State<App>,
    Name(id): Name,
    version: ApiVersion,
    query: Params,
) -> ApiResult {
    let control = app.control()?;
    let task = control.get_task(&id).await?;
    let tty = task.spec.container_spec.as_ref().is_some_and(|container| container.tty);
    let selector = LogSelector { tasks: vec![task.id.into()], ..LogSelector::default() };
    swarm_logs(&control, selector, &query, tty, version).await
}

/// A task as the API shows it: the name is its service's and its slot's, so there is no `Name`.
fn view(task: &Task) -> ApiResult<Value> {
    let mut view = public_view(task)?;
    if let Some(shown) = view.get_mut("Spec") {
        task_spec(shown, &task.spec);
    }
    if task.annotations.name.is_empty()
        && let Some(fields) = view.as_object_mut()
    {
        fields.shift_remove("Name");
    }
    Ok(view)
}
