use axum::extract::State;
use bollard_stubs::models::ContainerCreateBody;
use serde_json::{Map, Value, json as value};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, ApiVersion, Params, RawJson, created, decode_value};

/// `POST /containers/create`.
pub(super) async fn create(
    State(app): State<App>,
    version: ApiVersion,
    query: Params,
    RawJson(mut body): RawJson,
) -> ApiResult {
    normalize(&mut body);
    check_isolation(&body)?;
    if !version.at_least(44) {
        legacy_mac_address(&mut body);
    }
    let body: ContainerCreateBody =
        decode_value(body).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let name = query.non_empty("name").map(str::to_owned);
    let platform = query.non_empty("platform").map(str::to_owned);
    let answer = finish(async move {
        app.engine.container_create(name.as_deref(), platform.as_deref(), body).await
    })
    .await?;
    created(&value!({ "Id": answer.id, "Warnings": answer.warnings }))
}

/// Brings the forms that Docker accepts into the one that the model has: a command may be one string,
/// and a set may be written with nulls for its values.
pub(crate) fn normalize(body: &mut Value) {
    let Value::Object(fields) = body else { return };
    for key in ["Cmd", "Entrypoint", "Shell"] {
        if let Some(field @ Value::String(_)) = fields.get_mut(key) {
            *field = Value::Array(vec![field.take()]);
        }
    }
    for key in ["ExposedPorts", "Volumes"] {
        nulls_to_objects(fields.get_mut(key));
    }
    nulls_to_objects(fields.get_mut("NetworkingConfig").and_then(|c| c.get_mut("EndpointsConfig")));
}

/// Refuses kinds of isolation that Windows has, and those that nobody has, in Docker's words.
fn check_isolation(body: &Value) -> ApiResult<()> {
    match body.pointer("/HostConfig/Isolation").and_then(Value::as_str) {
        None | Some("" | "default") => Ok(()),
        Some(other) => Err(ApiError::bad_request(format!(
            "invalid isolation: {other:?} - linux only supports 'default'"
        ))),
    }
}

fn nulls_to_objects(set: Option<&mut Value>) {
    if let Some(Value::Object(set)) = set {
        for member in set.values_mut().filter(|member| member.is_null()) {
            *member = Value::Object(Map::new());
        }
    }
}

/// Until 1.43 the address was the container's, and meant its one network.
fn legacy_mac_address(body: &mut Value) {
    let Some(mac) = body.get("MacAddress").and_then(Value::as_str).filter(|mac| !mac.is_empty())
    else {
        return;
    };
    let mac = mac.to_owned();
    let network = match body.pointer("/HostConfig/NetworkMode").and_then(Value::as_str) {
        None | Some("" | "default") => "bridge".to_owned(),
        Some(mode) => mode.to_owned(),
    };
    let endpoint = &mut body["NetworkingConfig"]["EndpointsConfig"][network.as_str()];
    if endpoint.get("MacAddress").and_then(Value::as_str).is_none_or(str::is_empty) {
        endpoint["MacAddress"] = Value::String(mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms_become_the_models() {
        let mut body = value!({
            "Cmd": "true",
            "Entrypoint": ["sh"],
            "ExposedPorts": { "80/tcp": null },
            "NetworkingConfig": { "EndpointsConfig": { "net": null } },
            "HostConfig": null,
        });
        normalize(&mut body);
        let body: ContainerCreateBody = decode_value(body).unwrap();
        assert_eq!(body.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(body.exposed_ports, Some(vec!["80/tcp".to_owned()]));
        assert!(body.networking_config.unwrap().endpoints_config.unwrap().contains_key("net"));
        assert_eq!(body.host_config, None);
    }

    #[test]
    fn isolation_is_the_default() {
        for (isolation, fits) in [("", true), ("default", true), ("process", false), ("foo", false)]
        {
            let body = value!({ "HostConfig": { "Isolation": isolation } });
            assert_eq!(check_isolation(&body).is_ok(), fits, "{isolation}");
        }
        check_isolation(&value!({ "HostConfig": null })).unwrap();
    }

    #[test]
    fn old_place_of_the_mac_address() {
        let mut body = value!({ "MacAddress": "02:00:00:00:00:01" });
        legacy_mac_address(&mut body);
        let endpoint = &body["NetworkingConfig"]["EndpointsConfig"]["bridge"];
        assert_eq!(endpoint["MacAddress"], "02:00:00:00:00:01");
    }
}
