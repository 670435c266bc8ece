use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse as _, Response};

use crate::backend::{App, Backend};
use crate::http::ApiError;

/// Every operation, as each kind declares them, with Docker's answer for all others.
pub(crate) fn router(backend: Arc<Backend>) -> Router {
    let metrics = backend.metrics.clone();
    let adoption =
        axum::middleware::from_fn_with_state(backend.clone(), crate::backend::after_adoption);
    adopted()
        .route_layer(adoption)
        .merge(operations())
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(axum::middleware::from_fn_with_state(metrics, crate::metrics::measure))
        .with_state(backend)
}

/// Operations on what a daemon takes over from the one before it.
fn adopted() -> Router<App> {
    Router::new()
        .merge(crate::containers::routes())
        .merge(crate::exec::routes())
        .merge(crate::networks::routes())
}

/// All others.
fn operations() -> Router<App> {
    Router::new()
        .merge(crate::system::routes())
        .merge(crate::images::routes())
        .merge(crate::volumes::routes())
        .merge(crate::swarm::routes())
        .merge(crate::nodes::routes())
        .merge(crate::services::routes())
        .merge(crate::tasks::routes())
        .merge(crate::secrets::routes())
        .merge(crate::configs::routes())
        .merge(crate::skep::routes())
}

async fn unknown() -> Response {
    ApiError::not_found("page not found").into_response()
}

#[cfg(test)]
mod tests {
    #[test]
    fn routes_of_all_kinds_go_together() {
        // Panics if two kinds claim the same path.
        let _router = super::adopted().merge(super::operations());
    }
}
