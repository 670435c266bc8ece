use std::time::Duration;

use axum::extract::State;
use http::HeaderMap;
use skep_image::Reference;

use crate::auth::credentials;
use crate::backend::App;
use crate::http::{ApiError, ApiResult, Rest, json};

/// `docker service create` asks before it does anything; when there is no answer it warns and goes on
/// without a digest, so a registry that is slow must not hold it up.
const LIMIT: Duration = Duration::from_secs(5);

/// `GET /distribution/{name}/json`: what a registry has under a name.
pub(super) async fn distribution(
    State(app): State<App>,
    Rest(rest): Rest,
    headers: HeaderMap,
) -> ApiResult {
    let Some(name) = rest.strip_suffix("/json") else {
        return Err(ApiError::not_found("page not found"));
    };
    Reference::parse(name).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let who = credentials(&headers)?;
    if never_in_registry(&app, name).await {
        return Err(ApiError::not_found(format!(
            "{name}: this image was made on this host and has not been pushed to a registry"
        )));
    }
    match tokio::time::timeout(LIMIT, app.engine.image_distribution(name, who)).await {
        Ok(answer) => json(&answer?),
        Err(_) => Err(ApiError::new(
            http::StatusCode::GATEWAY_TIMEOUT,
            format!("{name}: the registry gave no answer within {} s", LIMIT.as_secs()),
        )),
    }
}

/// An image of this name that was loaded or imported and never pulled or pushed: whatever a registry
/// has under that name is another image.
async fn never_in_registry(app: &App, name: &str) -> bool {
    match app.engine.image_inspect(name).await {
        Ok(image) => image.repo_digests.is_none_or(|digests| digests.is_empty()),
        Err(_) => false,
    }
}
