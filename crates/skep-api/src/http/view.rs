use serde::Serialize;
use serde_json::Value;

use super::{ApiError, ApiResult};

/// Fields whose keys are names that users or hosts gave. They are shown in order; all other objects
/// keep the order of their model, which is the one people know from Docker.
const MAPS: [&str; 18] = [
    "Annotations",
    "AuxiliaryAddresses",
    "Containers",
    "Details",
    "DriverOpts",
    "EndpointsConfig",
    "ExposedPorts",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Services",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// A model as a document that may be changed, with its maps in order.
pub(crate) fn to_value<T: Serialize + ?Sized>(model: &T) -> ApiResult<Value> {
    let mut value = serde_json::to_value(model)
        .map_err(|e| ApiError::internal(format!("cannot write the answer as JSON: {e}")))?;
    order_maps(&mut value);
    Ok(value)
}

fn order_maps(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                if let Value::Object(map) = field
                    && MAPS.contains(&key.as_str())
                {
                    map.sort_keys();
                }
                order_maps(field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(order_maps),
        _ => {}
    }
}

/// The API's view of a cluster object: its JSON without the fields that are the store's own, which
/// have names that begin with `_`.
pub(crate) fn public_view<T: Serialize>(object: &T) -> ApiResult<Value> {
    let mut value = to_value(object)?;
    drop_internal(&mut value);
    Ok(value)
}

/// Removes internal fields at every depth. Maps of the user's own keep keys that begin with `_`.
fn drop_internal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !key.starts_with('_'));
            for (key, field) in fields.iter_mut() {
                if !MAPS.contains(&key.as_str()) {
                    drop_internal(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(drop_internal),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_fields_are_dropped_and_labels_kept() {
        let node = skep_types::Node {
            spec: skep_types::NodeSpec {
                annotations: skep_types::Annotations {
                    name: String::new(),
                    labels: [("_mine".to_owned(), "1".to_owned())].into(),
                },
                ..Default::default()
            },
            ..Default::default()
        };
        let view = public_view(&node).unwrap();
        assert!(view.get("_certificate").is_none());
        assert_eq!(view["Spec"]["Labels"]["_mine"], "1");
    }

    #[test]
    fn fields_keep_their_order_and_maps_are_sorted() {
        let model = bollard_stubs::models::NetworkInspect {
            name: Some("n".into()),
            id: Some("i".into()),
            scope: Some("local".into()),
            labels: Some((0..9).rev().map(|i| (format!("k{i}"), String::new())).collect()),
            ..Default::default()
        };
        let view = to_value(&model).unwrap();
        let fields: Vec<&String> = view.as_object().unwrap().keys().collect();
        assert_eq!(fields[..3], ["Name", "Id", "Scope"]);
        let labels: Vec<&String> = view["Labels"].as_object().unwrap().keys().collect();
        assert!(labels.is_sorted(), "{labels:?}");
    }
}
