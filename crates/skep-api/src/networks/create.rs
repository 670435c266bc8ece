use axum::extract::State;
use bollard_stubs::models::EventMessageTypeEnum::NETWORK;
use bollard_stubs::models::{Ipam, NetworkCreateRequest};
use serde_json::json as value;
use skep_types::{Annotations, Driver, IpamConfig, IpamOptions, NetworkSpec};

use super::list::swarm_networks;
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, JsonBody, created};
use crate::swarm::announce;

/// `POST /networks/create`.
pub(super) async fn create(
    State(app): State<App>,
    JsonBody(request): JsonBody<NetworkCreateRequest>,
) -> ApiResult {
    if request.name.trim().is_empty() {
        return Err(ApiError::bad_request("invalid network name: name is empty"));
    }
    let name = request.name.clone();
    if is_for_swarm(&request) {
        let control = app.control()?;
        name_is_free(&app, &name).await?;
        let spec = swarm_spec(request)?;
        // What is no subnet is refused with everything else by the manager.
        let configs = spec.ipam.iter().flat_map(|ipam| &ipam.configs);
        let subnets: Vec<_> = configs.filter_map(|config| config.subnet.parse().ok()).collect();
        app.engine.net().check_overlay(&subnets).await?;
        let network = finish(async move { control.create_network(spec).await }).await?;
        announce(&app, NETWORK, "create", network.id.as_str(), &name);
        return created(&value!({ "Id": network.id, "Warning": "" }));
    }
    if swarm_networks(&app)
        .await
        .iter()
        .flatten()
        .any(|network| network.spec.annotations.name == name)
    {
        return Err(name_in_use(&name));
    }
    let answer = finish(async move { app.engine.network_create(request).await }).await?;
    created(&value!({ "Id": answer.id, "Warning": answer.warning }))
}

fn is_for_swarm(request: &NetworkCreateRequest) -> bool {
    request.scope.as_deref() == Some("swarm")
        || request.driver.as_deref() == Some("overlay")
        || request.ingress == Some(true)
}

fn name_in_use(name: &str) -> ApiError {
    ApiError::conflict(format!("network with name {name} already exists"))
}

/// A swarm network may not have the name of a network of this host, or nobody could reach it by name.
async fn name_is_free(app: &App, name: &str) -> ApiResult<()> {
    if ["bridge", "host", "none", "default"].contains(&name) {
        return Err(ApiError::forbidden(format!(
            "operation is not permitted on predefined {name} network"
        )));
    }
    let filters =
        skep_engine::Filters::new().with("name", &format!("^{name}$")).with("scope", "local");
    if app.engine.network_list(&filters).await?.iter().any(|n| n.name.as_deref() == Some(name)) {
        return Err(name_in_use(name));
    }
    Ok(())
}

/// The request as the swarm's store has it.
fn swarm_spec(request: NetworkCreateRequest) -> ApiResult<NetworkSpec> {
    if request.config_only == Some(true) {
        return Err(ApiError::bad_request(
            "config-only networks are of one host: leave the scope out",
        ));
    }
    let config_from = request.config_from.and_then(|from| from.network).unwrap_or_default();
    Ok(NetworkSpec {
        annotations: Annotations {
            name: request.name,
            labels: request.labels.unwrap_or_default().into_iter().collect(),
        },
        driver_configuration: Driver {
            name: request.driver.unwrap_or_default(),
            options: request.options.unwrap_or_default().into_iter().collect(),
        },
        ipv6_enabled: request.enable_ipv6.unwrap_or(false),
        internal: request.internal.unwrap_or(false),
        attachable: request.attachable.unwrap_or(false),
        ingress: request.ingress.unwrap_or(false),
        ipam: request.ipam.map(ipam_options),
        config_from,
        scope: "swarm".to_owned(),
    })
}

fn ipam_options(ipam: Ipam) -> IpamOptions {
    let configs = ipam.config.unwrap_or_default().into_iter().map(|config| IpamConfig {
        subnet: config.subnet.unwrap_or_default(),
        range: config.ip_range.unwrap_or_default(),
        gateway: config.gateway.unwrap_or_default(),
        reserved: config.auxiliary_addresses.unwrap_or_default().into_iter().collect(),
    });
    IpamOptions {
        driver: Driver {
            name: ipam.driver.unwrap_or_default(),
            options: ipam.options.unwrap_or_default().into_iter().collect(),
        },
        configs: configs.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_become_specs() {
        let request: NetworkCreateRequest = crate::http::decode(
            br#"{"Name":"web","Driver":"overlay","Attachable":true,"EnableIPv6":null,
                "IPAM":{"Driver":"default","Config":[{"Subnet":"10.5.0.0/24","AuxAddress":null}]},
                "Labels":{"a":"b"}}"#,
        )
        .unwrap();
        assert!(is_for_swarm(&request));
        let spec = swarm_spec(request).unwrap();
        assert_eq!(spec.annotations.name, "web");
        assert!(spec.attachable);
        assert_eq!(spec.ipam.unwrap().configs[0].subnet, "10.5.0.0/24");
    }
}
