use std::sync::Arc;

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

/// What the API is a door to.
pub struct Backend {
    pub engine: Engine,
    pub swarm: Arc<SwarmNode>,
    pub product: Product,
    /// Shared with whoever serves the metrics page.
    pub metrics: Arc<Metrics>,
    /// What `info` warns of besides what the engine finds.
    pub warnings: Vec<String>,
}

/// The backend as handlers have it.
pub(crate) type App = Arc<Backend>;
