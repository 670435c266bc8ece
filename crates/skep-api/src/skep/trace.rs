use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use skep_manager::{Control, NodeFilter, ServiceFilter};
use skep_net::{KnownPort, KnownService, TraceQuery};
use skep_types::{PublishMode, Service, ServiceId};

use crate::backend::{App, Backend};
use crate::http::{ApiError, ApiResult, Params, json};

/// `GET /skep/v1/net/trace?target=…&from=…`: the way of a packet through this host, read from its
/// kernel.
pub(super) async fn trace(State(app): State<App>, query: Params) -> ApiResult {
    let Some(target) = query.non_empty("target") else {
        return Err(ApiError::bad_request("the parameter target is missing"));
    };
    let (services, nodes) = known(&app).await;
    let question = TraceQuery {
        target: target.to_owned(),
        from: query.text("from").to_owned(),
        host_name: app.engine.system_info().await?.name.unwrap_or_default(),
        services,
        nodes,
    };
    json(&app.engine.net().trace(question).await?)
}

/// What the managers know: all, where this host is one of them. A manager that cannot say is no
/// reason not to read the kernel.
async fn known(app: &Backend) -> (Option<Vec<KnownService>>, BTreeMap<IpAddr, String>) {
    let Ok(control) = app.swarm.control() else { return (None, BTreeMap::new()) };
    let services = services(&control).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "trace without the managers' services");
        None
    });
    let nodes = match control.list_nodes(&NodeFilter::default()).await {
        Ok(nodes) => nodes
            .into_iter()
            .filter_map(|node| Some((node.status.addr.parse().ok()?, node.description.hostname)))
            .collect(),
        Err(error) => {
            tracing::debug!(%error, "trace without the names of hosts");
            BTreeMap::new()
        }
    };
    (services, nodes)
}

async fn services(
    control: &Control,
) -> Result<Option<Vec<KnownService>>, skep_manager::ControlError> {
    let services = control.list_services(&ServiceFilter::default()).await?;
    let ids: Vec<ServiceId> = services.iter().map(|service| service.id.clone()).collect();
    let counts = control.service_task_counts(&ids).await?;
    let known = services.iter().map(|service| {
        let counts = counts.get(&service.id).copied().unwrap_or_default();
        KnownService {
            name: service.spec.annotations.name.clone(),
            ports: ports(service),
            running: counts.running,
            desired: counts.desired,
        }
    });
    Ok(Some(known.collect()))
}

fn ports(service: &Service) -> Vec<KnownPort> {
    let port = |number| u16::try_from(number).ok().filter(|n| *n > 0);
    service
        .endpoint
        .ports
        .iter()
        .filter_map(|config| {
            Some(KnownPort {
                protocol: config.protocol,
                target: port(config.target_port)?,
                published: port(config.published_port)?,
                host_mode: config.publish_mode == PublishMode::Host,
            })
        })
        .collect()
}
