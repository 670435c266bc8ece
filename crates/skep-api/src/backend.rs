use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use skep_engine::Engine;
use skep_node::SwarmNode;

use crate::Metrics;

/// What is being served, as clients are told.
#[derive(Clone, Debug)]
pub struct Product {
    /// For instance `skep`.
    pub name: String,
    /// For instance `0.1.0`.
    pub version: String,
    /// Short commit id; empty if unknown.
    pub commit: String,
    /// RFC 3339; empty if unknown.
    pub built: String,
}

impl Product {
    /// `name/version`, as in the `Server` header.
    pub(crate) fn token(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

/// Lines for a user, each with `WARNING: ` in front.
pub type Warnings = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What the API is a door to.
pub struct Backend {
    pub engine: Engine,
    pub swarm: Arc<SwarmNode>,
    pub product: Product,
    /// Shared with whoever serves the metrics page.
    pub metrics: Arc<Metrics>,
    /// What `info` warns of besides what the engine finds. Asked at each call, where it may block.
    pub warnings: Warnings,
}

/// Has a request wait until the containers of an earlier daemon have been taken over, unless it only
/// looks: lists and descriptions are there from the start.
pub(crate) async fn after_adoption(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    // Descriptions of networks and containers; logs, archives and the like of a container do wait.
    let looks = matches!(*request.method(), Method::GET | Method::HEAD)
        && (path.ends_with("/json") || !path.contains("/containers/"));
    if !looks {
        app.engine.adopted().await;
    }
    next.run(request).await
}

/// The backend as handlers have it.
pub(crate) type App = Arc<Backend>;
