//! Hosts of the swarm.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bollard_stubs::models::EventMessageTypeEnum::NODE;
use http::StatusCode;
use serde_json::Value;
use skep_engine::Filters;
use skep_manager::NodeFilter;
use skep_types::{LabelFilter, Node, NodeMembership, NodeRole, NodeSpec};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, JsonBody, Name, Params, json, public_view};
use crate::swarm::{announce, common, object_version};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/nodes", get(list))
        .route("/nodes/{id}", get(inspect).delete(remove))
        .route("/nodes/{id}/update", post(update))
}

/// `GET /nodes`.
async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let control = app.control()?;
    let filters =
        query.known_filters(&["id", "label", "name", "node.label", "role", "membership"])?;
    let nodes = control.list_nodes(&node_filter(&filters)?).await?;
    json(&nodes.iter().map(view).collect::<ApiResult<Vec<_>>>()?)
}

fn node_filter(filters: &Filters) -> ApiResult<NodeFilter> {
    let roles = filters.get("role").iter().map(|role| match role.as_str() {
        "worker" => Ok(NodeRole::Worker),
        "manager" => Ok(NodeRole::Manager),
        other => Err(ApiError::bad_request(format!("invalid filter 'role={other}'"))),
    });
    let memberships =
        filters.get("membership").iter().map(|membership| match membership.as_str() {
            "accepted" => Ok(NodeMembership::Accepted),
            "pending" => Ok(NodeMembership::Pending),
            other => Err(ApiError::bad_request(format!("invalid filter 'membership={other}'"))),
        });
    Ok(NodeFilter {
        common: common(filters),
        node_labels: filters
            .get("node.label")
            .iter()
            .map(|label| LabelFilter::parse_of_swarm(label))
            .collect(),
        roles: roles.collect::<ApiResult<_>>()?,
        memberships: memberships.collect::<ApiResult<_>>()?,
    })
}

/// `GET /nodes/{id}`.
async fn inspect(State(app): State<App>, Name(id): Name) -> ApiResult {
    json(&view(&app.control()?.get_node(&id).await?)?)
}

/// `DELETE /nodes/{id}`.
async fn remove(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult<Response> {
    let (control, force) = (app.control()?, query.flag("force"));
    let node = control.get_node(&id).await?;
    finish(async move { control.remove_node(&id, force).await }).await?;
    announce(&app, NODE, "remove", node.id.as_str(), &node.description.hostname);
    Ok(StatusCode::OK.into_response())
}

/// `POST /nodes/{id}/update`.
async fn update(
    State(app): State<App>,
    Name(id): Name,
    query: Params,
    JsonBody(spec): JsonBody<NodeSpec>,
) -> ApiResult<Response> {
    let (control, version) = (app.control()?, object_version(&query)?);
    let node = finish(async move { control.update_node(&id, version, spec).await }).await?;
    announce(&app, NODE, "update", node.id.as_str(), &node.description.hostname);
    Ok(StatusCode::OK.into_response())
}

/// A node as the API shows it: one without a name of its own has no `Name`.
fn view(node: &Node) -> ApiResult<Value> {
    let mut view = public_view(node)?;
    if node.spec.annotations.name.is_empty()
        && let Some(spec) = view.get_mut("Spec").and_then(Value::as_object_mut)
    {
        spec.shift_remove("Name");
    }
    Ok(view)
}
