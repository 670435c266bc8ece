use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bollard_stubs::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use http::StatusCode;

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, JsonBody, Name};

/// `POST /networks/{id}/connect`.
pub(super) async fn connect(
    State(app): State<App>,
    Name(id): Name,
    JsonBody(request): JsonBody<NetworkConnectRequest>,
) -> ApiResult<Response> {
    if request.container.is_empty() {
        return Err(ApiError::bad_request("invalid container: Container is empty"));
    }
    finish(async move { app.engine.network_connect(&id, request).await }).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /networks/{id}/disconnect`.
pub(super) async fn disconnect(
    State(app): State<App>,
    Name(id): Name,
    JsonBody(request): JsonBody<NetworkDisconnectRequest>,
) -> ApiResult<Response> {
    finish(async move { app.engine.network_disconnect(&id, request).await }).await?;
    Ok(StatusCode::OK.into_response())
}
