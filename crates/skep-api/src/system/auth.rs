use axum::extract::State;
use serde_json::json as value;

use crate::auth::AuthConfig;
use crate::backend::App;
use crate::http::{ApiResult, JsonBody, json};

/// Docker Hub's address, when a client names none.
const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";

/// `POST /auth`: checks credentials at a registry; nothing is kept here.
pub(super) async fn auth(
    State(app): State<App>,
    JsonBody(mut auth): JsonBody<AuthConfig>,
) -> ApiResult {
    let mut server = std::mem::take(&mut auth.serveraddress);
    if server.is_empty() {
        DEFAULT_SERVER.clone_into(&mut server);
    }
    let token = app.engine.registry_login(&server, auth.credentials()).await?;
    json(&value!({ "Status": "Login Succeeded", "IdentityToken": token.unwrap_or_default() }))
}
