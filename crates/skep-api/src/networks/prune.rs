use axum::extract::State;
use bollard_stubs::models::EventMessageTypeEnum::NETWORK;
use serde_json::json as value;
use skep_engine::Filters;
use skep_manager::ControlErrorKind;
use time::{Duration, OffsetDateTime};

use super::list::swarm_networks;
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, Params, json};
use crate::swarm::announce;
use crate::system::parse_time;

/// `POST /networks/prune`: unused networks of this host and, on a manager, of the swarm.
pub(super) async fn prune(State(app): State<App>, query: Params) -> ApiResult {
    let filters = query.known_filters(&["label", "label!", "until"])?;
    let until = until(&filters)?;
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
                if matches!(
                    error.kind,
                    ControlErrorKind::FailedPrecondition | ControlErrorKind::NotFound
                ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

/// The `until` filter: a moment, or a span before now such as `24h`.
fn until(filters: &Filters) -> ApiResult<Option<OffsetDateTime>> {
    let Some(text) = filters.get("until").first() else { return Ok(None) };
    let moment =
        parse_time(text).or_else(|| span(text).map(|span| OffsetDateTime::now_utc() - span));
    match moment {
        Some(moment) => Ok(Some(moment)),
        None => Err(ApiError::bad_request(format!("invalid filter 'until={text}'"))),
    }
}

/// A span in Go's form, `1h30m`.
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            _ => return None,
        };
        total = total
            .checked_add(Duration::checked_seconds_f64(number.parse::<f64>().ok()? * seconds)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!(span("1h30m"), Some(Duration::minutes(90)));
        assert_eq!(span("1.5s"), Some(Duration::milliseconds(1500)));
        for bad in ["", "h", "5", "5x", "1e300h"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
