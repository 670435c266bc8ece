use bollard_stubs::models::NetworkInspect;
use skep_engine::{EngineError, ErrorKind};
use skep_types::Network;

use super::view::is_predefined;
use crate::backend::App;
use crate::http::{ApiError, ApiResult};

/// A network by whoever knows it.
pub(super) enum Found {
    /// Of this host alone.
    Local(Box<NetworkInspect>),
    /// Of the swarm; with what this host knows of it, if it takes part.
    Swarm(Box<Network>, Option<Box<NetworkInspect>>),
}

/// How well a reference fits; better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Id,
    Name,
    Prefix,
}

fn fit(reference: &str, id: &str, name: &str) -> Fit {
    if id == reference {
        Fit::Id
    } else if name == reference {
        Fit::Name
    } else {
        Fit::Prefix
    }
}

/// Finds a network by id, name or id prefix, in that order, on this host and in the swarm.
///
/// # Errors
/// 404 if nobody knows it, 400 if it is the name of one and a different one of the other.
pub(super) async fn find(
    app: &App,
    reference: &str,
    verbose: bool,
    scope: &str,
) -> ApiResult<Found> {
    let local = match scope {
        "" | "local" | "swarm" | "global" => local(app, reference, verbose).await?,
        other => return Err(ApiError::bad_request(format!("unknown scope: {other:?}"))),
    };
    let local = local.filter(|n| scope.is_empty() || n.scope.as_deref() == Some(scope));
    let swarm = if scope == "local" { Answer::None } else { swarm(app, reference).await? };
    let (local, swarm) = match swarm {
        // A swarm network that the swarm does not know was removed and is not yet taken down here.
        // Its name may already be another's.
        Answer::Found(network) => {
            let same = |n: &NetworkInspect| n.id.as_deref() == Some(network.id.as_str());
            (local.filter(|n| n.scope.as_deref() != Some("swarm") || same(n)), Some(network))
        }
        Answer::Absent => (local.filter(|n| n.scope.as_deref() != Some("swarm")), None),
        Answer::None => (local, None),
    };
    match (local, swarm) {
        (None, None) => Err(ApiError::not_found(format!("network {reference} not found"))),
        (Some(local), None) => Ok(Found::Local(local)),
        (None, Some(network)) => Ok(Found::Swarm(network, None)),
        (Some(local), Some(network)) if local.id.as_deref() == Some(network.id.as_str()) => {
            Ok(Found::Swarm(network, Some(local)))
        }
        (Some(local), Some(network)) => {
            let name = local.name.as_deref().unwrap_or("");
            let here = fit(reference, local.id.as_deref().unwrap_or(""), name);
            let there = fit(reference, network.id.as_str(), &network.spec.annotations.name);
            match here.cmp(&there) {
                std::cmp::Ordering::Less => Ok(Found::Local(local)),
                std::cmp::Ordering::Greater => Ok(Found::Swarm(network, None)),
                std::cmp::Ordering::Equal => Err(ApiError::bad_request(format!(
                    "network {reference} is ambiguous (2 matches found based on {})",
                    if here == Fit::Prefix { "ID prefix" } else { "name" }
                ))),
            }
        }
    }
}

async fn local(
    app: &App,
    reference: &str,
    verbose: bool,
) -> ApiResult<Option<Box<NetworkInspect>>> {
    match app.engine.network_inspect(reference, verbose).await {
        Ok(network) => Ok(Some(Box::new(network))),
        Err(error) => absent(error).map(|()| None),
    }
}

/// Not knowing it is no error yet.
fn absent(error: EngineError) -> ApiResult<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error.into()) }
}

/// What the manager says.
enum Answer {
    Found(Box<Network>),
    /// There is no such network in the swarm.
    Absent,
    /// Nothing: this host is not a manager, or one without a quorum, which still answers for its
    /// host's own networks.
    None,
}

async fn swarm(app: &App, reference: &str) -> ApiResult<Answer> {
    let Ok(control) = app.swarm.control() else { return Ok(Answer::None) };
    match control.get_network(reference).await {
        Ok(network) if is_predefined(&network) => Ok(Answer::Absent),
        Ok(network) => Ok(Answer::Found(Box::new(network))),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Answer::Absent),
        Err(error) if error.kind == ErrorKind::Unavailable => Ok(Answer::None),
        Err(error) => Err(error.into()),
    }
}
