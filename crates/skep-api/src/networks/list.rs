use std::collections::BTreeSet;

use axum::extract::State;
use serde_json::{Value, json as value};
use skep_engine::Filters;
use skep_types::Network;

use super::view::{driver, is_predefined, swarm_network};
use crate::backend::App;
use crate::http::{ApiError, ApiResult, Params, json, to_value};

/// `GET /networks`.
pub(super) async fn list(State(app): State<App>, query: Params) -> ApiResult {
    let filters =
        query.known_filters(&["driver", "type", "name", "id", "label", "scope", "dangling"])?;
    let mut networks = Vec::new();
    let mut seen = BTreeSet::new();
    let known = swarm_networks(&app).await;
    // Where the manager answers, it alone says which swarm networks exist: this host may still be
    // taking down one that is removed, and `docker stack deploy` must not build on that.
    let manager_answers = known.is_some();
    for network in known.unwrap_or_default() {
        seen.insert(network.id.to_string());
        if selected(&filters, &network)? {
            let mut view = swarm_network(&network);
            view.insert("Containers".into(), Value::Null);
            networks.push(Value::Object(view));
        }
    }
    for network in app.engine.network_list(&filters).await? {
        let leftover = manager_answers && network.scope.as_deref() == Some("swarm");
        if !leftover && network.id.as_ref().is_none_or(|id| !seen.contains(id)) {
            let mut view = to_value(&network)?;
            view["Containers"] = value!({});
            networks.push(view);
        }
    }
    json(&networks)
}

/// The swarm's networks, on a manager that can answer; `None` elsewhere. This host's own are shown in
/// any case.
pub(super) async fn swarm_networks(app: &App) -> Option<Vec<Network>> {
    let control = app.swarm.control().ok()?;
    match control.list_networks(&skep_manager::Filter::default()).await {
        Ok(networks) => {
            Some(networks.into_iter().filter(|network| !is_predefined(network)).collect())
        }
        Err(error) => {
            tracing::warn!(%error, "cannot list the swarm's networks");
            None
        }
    }
}

fn selected(filters: &Filters, network: &Network) -> ApiResult<bool> {
    let labels = &network.spec.annotations.labels;
    let types = filters.get("type");
    for kind in types {
        if kind != "custom" && kind != "builtin" {
            return Err(ApiError::bad_request(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    // Every network of the swarm was made by a user, but for the one the swarm begins with.
    let kind = if network.spec.ingress { "builtin" } else { "custom" };
    Ok(filters.exact("driver", driver(network))
        && (types.is_empty() || types.iter().any(|wanted| wanted == kind))
        && filters.fuzzy("name", &network.spec.annotations.name)
        && filters.prefix("id", network.id.as_str())
        && filters.exact("scope", "swarm")
        && filters.labels("label", |key| labels.get(key).map(String::as_str))
        // Whether other hosts use it is not known here, so it is never taken for unused.
        && !filters.flag("dangling", false)?)
}
