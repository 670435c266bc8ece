use serde_json::{Map, Value, json as value};
use skep_types::{IpamConfig, Network, PREDEFINED_LABEL};

/// Driver of a swarm network that names none.
const DEFAULT_DRIVER: &str = "overlay";

/// The driver of a swarm network: the allocator's word, then the user's.
pub(super) fn driver(network: &Network) -> &str {
    [&network.driver_state.name, &network.spec.driver_configuration.name]
        .into_iter()
        .map(String::as_str)
        .find(|name| !name.is_empty())
        .unwrap_or(DEFAULT_DRIVER)
}

/// True for the swarm's record of a network that every host has by itself, such as `host`.
pub(super) fn is_predefined(network: &Network) -> bool {
    network.spec.annotations.labels.get(PREDEFINED_LABEL).is_some_and(|value| value == "true")
}

/// A swarm network in the shape that networks of a host have. Without `Containers`, which the caller
/// knows.
pub(super) fn swarm_network(network: &Network) -> Map<String, Value> {
    let spec = &network.spec;
    let configs: Vec<Value> = network
        .ipam
        .as_ref()
        .or(spec.ipam.as_ref())
        .map(|ipam| ipam.configs.iter().map(ipam_config).collect())
        .unwrap_or_default();
    let ipam_driver = spec.ipam.as_ref().map_or("", |ipam| ipam.driver.name.as_str());
    let options = if network.driver_state.options.is_empty() {
        &spec.driver_configuration.options
    } else {
        &network.driver_state.options
    };
    let view = value!({
        "Name": spec.annotations.name,
        "Id": network.id,
        "Created": network.meta.created_at,
        "Scope": "swarm",
        "Driver": driver(network),
        "EnableIPv4": true,
        "EnableIPv6": spec.ipv6_enabled,
        "IPAM": {
            "Driver": if ipam_driver.is_empty() { "default" } else { ipam_driver },
            "Options": null,
            "Config": configs,
        },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": { "Network": spec.config_from },
        "ConfigOnly": false,
        "Options": options,
        "Labels": spec.annotations.labels,
    });
    match view {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn ipam_config(config: &IpamConfig) -> Value {
    let mut shown = Map::new();
    for (key, text) in
        [("Subnet", &config.subnet), ("IPRange", &config.range), ("Gateway", &config.gateway)]
    {
        if !text.is_empty() {
            shown.insert(key.to_owned(), text.as_str().into());
        }
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{Driver, IpamOptions, VXLAN_ID_LIST};

    /// What the field reports show for a network of a stack.
    #[test]
    fn overlay_looks_as_in_docker() {
        let mut network = Network { id: "uecxc14ur67nvolfqtsimuodz".into(), ..Network::default() };
        network.spec.annotations.name = "web".into();
        network.driver_state = Driver {
            name: "overlay".into(),
            options: [(VXLAN_ID_LIST.to_owned(), "4097".to_owned())].into(),
        };
        network.ipam = Some(IpamOptions {
            configs: vec![IpamConfig {
                subnet: "10.0.1.0/24".into(),
                gateway: "10.0.1.1".into(),
                ..IpamConfig::default()
            }],
            ..IpamOptions::default()
        });
        let expected = value!({
            "Name": "web",
            "Id": "uecxc14ur67nvolfqtsimuodz",
            "Created": "0001-01-01T00:00:00Z",
            "Scope": "swarm",
            "Driver": "overlay",
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": {
                "Driver": "default",
                "Options": null,
                "Config": [{ "Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1" }],
            },
            "Internal": false,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Options": { "com.docker.network.driver.overlay.vxlanid_list": "4097" },
            "Labels": {},
        });
        assert_eq!(Value::Object(swarm_network(&network)), expected);
    }
}
