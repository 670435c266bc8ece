use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// A document whose field names fit in any case, as Docker's decoder takes them. SDKs rely on it:
/// docker-py asks for a service's mode as `{"replicated": …}`.
///
/// A name that fits exactly wins over one that fits in another case. Keys of maps and values of enums
/// written as text are taken as they are.
pub(super) struct Lenient(pub Value);

/// Gives fields the case they are known by.
fn fold(fields: Map<String, Value>, known: &[&str]) -> Map<String, Value> {
    let (exact, other): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|(key, _)| known.contains(&key.as_str()));
    let mut folded: Map<String, Value> = exact.into_iter().collect();
    for (key, value) in other {
        let name = known.iter().find(|name| name.eq_ignore_ascii_case(&key));
        let name = name.map_or(key, |name| (*name).to_owned());
        folded.entry(name).or_insert(value);
    }
    folded
}

fn map<'de, V: Visitor<'de>>(fields: Map<String, Value>, visitor: V) -> Result<V::Value, Error> {
    visitor.visit_map(MapDeserializer::new(
        fields.into_iter().map(|(key, value)| (key, Lenient(value))),
    ))
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Other("null"),
        Value::Bool(found) => Unexpected::Bool(*found),
        Value::Number(_) => Unexpected::Other("number"),
        Value::String(found) => Unexpected::Str(found),
        Value::Array(_) => Unexpected::Other("list"),
        Value::Object(_) => Unexpected::Other("object"),
    }
}

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Lenient)))
            }
            Value::Object(fields) => map(fields, visitor),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Self(value)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(fields) => map(fold(fields, known), visitor),
            // Derived code would also take a list, with the fields in the order of our source.
            other => Err(Error::invalid_type(unexpected(&other), &"an object")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let value = match self.0 {
            Value::Object(fields) => Value::Object(fold(fields, variants)),
            other => other,
        };
        value.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use skep_types::{ServiceMode, ServiceSpec};

    use super::super::decode_value;

    #[test]
    fn names_fit_in_any_case() {
        let spec: ServiceSpec = decode_value(json!({
            "Name": "web",
            "Mode": { "replicated": { "Replicas": 3 } },
            "TaskTemplate": { "containerspec": { "image": "x", "Labels": { "Image": "kept" } } },
            "EndpointSpec": { "Ports": [{ "targetPort": 80 }] },
        }))
        .unwrap();
        assert!(matches!(spec.mode, ServiceMode::Replicated(r) if r.replicas == Some(3)));
        let container = spec.task_template.container_spec.unwrap();
        assert_eq!((container.image.as_str(), container.labels["Image"].as_str()), ("x", "kept"));
        assert_eq!(spec.endpoint_spec.unwrap().ports[0].target_port, 80);
    }

    #[test]
    fn exact_names_win_and_errors_name_the_path() {
        let network: skep_types::Driver =
            decode_value(json!({ "name": "b", "Name": "a" })).unwrap();
        assert_eq!(network.name, "a");
        let error = decode_value::<ServiceSpec>(json!({
            "TaskTemplate": { "ContainerSpec": { "Env": ["a", 1] } },
        }));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("invalid JSON: TaskTemplate.ContainerSpec.Env[1]: "), "{error}");
        let error = decode_value::<ServiceSpec>(json!({
            "Mode": { "Replicated": { "Replicas": -1 } },
        }));
        assert!(error.unwrap_err().to_string().contains("Mode"), "path");
    }

    #[test]
    fn only_objects_are_objects() {
        for (value, found) in [
            (json!([]), "list"),
            (json!(["a"]), "list"),
            (json!("a"), "string \"a\""),
            (json!(5), "number"),
            (json!(null), "null"),
        ] {
            let error = decode_value::<skep_types::Driver>(value).unwrap_err().to_string();
            assert_eq!(error, format!("invalid JSON: invalid type: {found}, expected an object"));
        }
    }
}
