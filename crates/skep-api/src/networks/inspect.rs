use axum::extract::State;
use serde_json::{Map, Value, json as value};

use super::find::{Found, find};
use super::view::swarm_network;
use crate::backend::App;
use crate::http::{ApiError, ApiResult, Name, Params, json, to_value};

/// `GET /networks/{id}`.
pub(super) async fn inspect(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    match find(&app, &id, query.flag("verbose"), query.text("scope")).await? {
        Found::Local(network) => {
            let mut view = to_object(&network)?;
            view.entry("Containers").or_insert_with(|| value!({}));
            json(&view)
        }
        Found::Swarm(network, here) => {
            let mut view = swarm_network(&network);
            let mut here = match here {
                Some(here) => to_object(&here)?,
                None => Map::new(),
            };
            // Null while no task of this host is on it, as in Docker.
            view.insert(
                "Containers".into(),
                here.shift_remove("Containers").unwrap_or(Value::Null),
            );
            for key in ["Peers", "Services"] {
                if let Some(shown) = here.shift_remove(key) {
                    view.insert(key.into(), shown);
                }
            }
            json(&view)
        }
    }
}

fn to_object(model: &impl serde::Serialize) -> ApiResult<Map<String, Value>> {
    match to_value(model)? {
        Value::Object(fields) => Ok(fields),
        other => Err(ApiError::internal(format!("a network is not an object: {other}"))),
    }
}
