use axum::extract::State;
use bollard_stubs::models::EventMessageTypeEnum::NETWORK;

use super::find::{Found, find};
use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiResult, Name, no_content};
use crate::swarm::announce;

/// `DELETE /networks/{id}`.
pub(super) async fn remove(State(app): State<App>, Name(id): Name) -> ApiResult {
    match find(&app, &id, false, "").await? {
        Found::Local(network) => {
            let id = network.id.unwrap_or(id);
            finish(async move { app.engine.network_remove(&id).await }).await?;
        }
        Found::Swarm(network, _) => {
            let (control, id) = (app.control()?, network.id.to_string());
            finish(async move { control.remove_network(&id).await }).await?;
            announce(&app, NETWORK, "remove", network.id.as_str(), &network.spec.annotations.name);
        }
    }
    Ok(no_content())
}
