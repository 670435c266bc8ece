use serde::Serialize;
use serde_json::Value;

use super::ApiError;

/// The API's view of a cluster object: its JSON without the fields that are the store's own, which
/// have names that begin with `_`.
pub(crate) fn public_view<T: Serialize>(object: &T) -> Result<Value, ApiError> {
    let mut value = serde_json::to_value(object)
        .map_err(|e| ApiError::internal(format!("cannot write the answer as JSON: {e}")))?;
    drop_internal(&mut value);
    Ok(value)
}

/// Removes internal fields at every depth. Maps of the user's own (labels, options, sysctls) keep
/// keys that begin with `_`.
fn drop_internal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !key.starts_with('_'));
            for (key, field) in fields.iter_mut() {
                if !matches!(key.as_str(), "Labels" | "Options" | "Sysctls" | "DriverOpts") {
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
}
