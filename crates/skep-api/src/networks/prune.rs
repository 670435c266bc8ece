use axum::extract::State;
use bollard_stubs::models::EventMessageTypeEnum::NETWORK;
use serde_json::json as value;
use skep_engine::Filters;
use skep_types::ErrorKind;
use time::OffsetDateTime;

use super::list::swarm_networks;
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, Params, json};
use crate::swarm::announce;

/// `POST /networks/prune`: unused networks of this host and, on a manager, of the swarm.
pub(super) async fn prune(State(app): State<App>, query: Params) -> ApiResult {
    let filters = query.known_filters(&["label", "label!", "until"])?;
    let until = filters.until()?;
    let (engine, local) = (app.engine.clone(), filters.clone());
    let report = finish(async move { engine.network_prune(&local).await }).await?;
    let mut removed = report.networks_deleted.unwrap_or_default();
    removed.extend(prune_swarm(&app, &filters, until).await?);
    json(&value!({ "NetworksDeleted": removed }))
}

async fn prune_swarm(
    app: &App,
    filters: &Filters,
    until: Option<OffsetDateTime>,
) -> ApiResult<Vec<String>> {
    let mut removed = Vec::new();
    let Ok(control) = app.swarm.control() else { return Ok(removed) };
    for network in swarm_networks(app).await.unwrap_or_default() {
        let annotations = &network.spec.annotations;
        let label = |key: &str| annotations.labels.get(key).map(String::as_str);
        if network.spec.ingress
            || until.is_some_and(|until| network.meta.created_at.datetime() >= until)
            || !filters.labels("label", label)
            || !filters.no_labels("label!", label)
        {
            continue;
        }
        match control.remove_network(network.id.as_str()).await {
            Ok(()) => {
                announce(app, NETWORK, "remove", network.id.as_str(), &annotations.name);
                removed.push(annotations.name.clone());
            }
            // In use, or gone meanwhile: nothing to prune.
            Err(error)
                if matches!(error.kind, ErrorKind::FailedPrecondition | ErrorKind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}
