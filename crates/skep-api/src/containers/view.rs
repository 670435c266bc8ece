use bollard_stubs::models::ContainerInspectResponse;
use serde_json::{Value, json as value};

use crate::http::{ApiResult, ApiVersion, to_value};

/// A container as `inspect` shows it: the engine's model, with the fields of `NetworkSettings` that
/// newer versions of the API dropped. They tell of the default bridge network alone.
pub(super) fn container(
    container: &ContainerInspectResponse,
    version: ApiVersion,
) -> ApiResult<Value> {
    let mut view = to_value(container)?;
    if let Some(settings) = view.get_mut("NetworkSettings").and_then(Value::as_object_mut) {
        let bridge = settings.get("Networks").and_then(|networks| networks.get("bridge")).cloned();
        let bridge = bridge.unwrap_or(Value::Null);
        for (key, none) in [
            ("EndpointID", value!("")),
            ("Gateway", value!("")),
            ("IPAddress", value!("")),
            ("MacAddress", value!("")),
            ("IPv6Gateway", value!("")),
            ("GlobalIPv6Address", value!("")),
            ("IPPrefixLen", value!(0)),
            ("GlobalIPv6PrefixLen", value!(0)),
        ] {
            let shown = bridge.get(key).cloned().unwrap_or(none);
            settings.entry(key).or_insert(shown);
        }
        for (key, shown) in [
            ("Bridge", value!("")),
            ("HairpinMode", value!(false)),
            ("LinkLocalIPv6Address", value!("")),
            ("LinkLocalIPv6PrefixLen", value!(0)),
            ("SecondaryIPAddresses", Value::Null),
            ("SecondaryIPv6Addresses", Value::Null),
        ] {
            settings.entry(key).or_insert(shown);
        }
    }
    if !version.at_least(45)
        && let Some(networks) =
            view.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut)
    {
        // Until 1.44 the short id was among the aliases.
        let short: String = container.id.as_deref().unwrap_or("").chars().take(12).collect();
        for endpoint in networks.values_mut() {
            if let Some(aliases) = endpoint.get_mut("Aliases").and_then(Value::as_array_mut)
                && !aliases.iter().any(|alias| alias == short.as_str())
            {
                aliases.push(short.clone().into());
            }
        }
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_stubs::models::{EndpointSettings, NetworkSettings};

    #[test]
    fn default_bridge_is_shown_where_it_used_to_be() {
        let settings = EndpointSettings {
            ip_address: Some("172.17.0.2".into()),
            ip_prefix_len: Some(16),
            aliases: Some(vec!["web".into()]),
            ..Default::default()
        };
        let model = ContainerInspectResponse {
            id: Some("0123456789abcdef".into()),
            network_settings: Some(NetworkSettings {
                networks: Some([("bridge".to_owned(), settings)].into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let new = container(&model, crate::http::MAX_VERSION).unwrap();
        assert_eq!(new["NetworkSettings"]["IPAddress"], "172.17.0.2");
        assert_eq!(new["NetworkSettings"]["IPPrefixLen"], 16);
        assert_eq!(new["NetworkSettings"]["Gateway"], "");
        assert_eq!(new["NetworkSettings"]["Networks"]["bridge"]["Aliases"], value!(["web"]));
        let old = container(&model, ApiVersion { major: 1, minor: 40 }).unwrap();
        assert_eq!(
            old["NetworkSettings"]["Networks"]["bridge"]["Aliases"],
            value!(["web", "0123456789ab"])
        );
    }
}
