//! The Docker Engine API over HTTP: the door by which the `docker` command line, Compose, SDKs and
//! dashboards come in.
//!
//! # What it promises
//! - Versions 1.24 to 1.50, as Docker serves them: paths with and without a version, Docker's status
//!   codes and texts, its rules for queries, filters and bodies, its framing of streams.
//! - A change that has begun is finished even if its client leaves; only streams end with their
//!   client.
//! - Nothing is decided here. A handler reads the request, calls the engine or the swarm, and writes
//!   the answer in the API's shape.
//!
//! # How it is laid out
//! One folder per kind of object, with a `routes()` of its own; `router` puts them together. `http`
//! has the rules shared by all operations, `stream` what goes on after the headers, `server` the
//! sockets. Errors of other rooms become statuses in `status`, and nowhere else. A new operation goes
//! into its kind's folder and its `routes()`; a new error variant is sorted by its own crate.
//!
//! The engine's models follow a newer version of the API than the newest served here; what that
//! version dropped and clients of ours still read is added back by the `view` modules.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod auth;
mod backend;
mod configs;
mod containers;
mod exec;
mod finish;
mod fuzz;
mod http;
mod images;
mod metrics;
mod networks;
mod nodes;
mod router;
mod secrets;
mod server;
mod services;
mod skep;
mod status;
mod stream;
mod swarm;
mod system;
mod tasks;
mod volumes;

pub use auth::registry_credentials;
pub use backend::{Backend, Product, Warnings};
pub use fuzz::{BodyKind, fuzz_body};
pub use metrics::{Metrics, MetricsSource, serve_metrics};
pub use server::{GRACE, ListenError, Listener};

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// Serves the API on all listeners until `shutdown` is cancelled and running requests have ended, at
/// most [`GRACE`] later. Removes the sockets it was given a path for.
pub async fn serve(listeners: Vec<Listener>, backend: Backend, shutdown: CancellationToken) {
    let headers = server::ServerHeaders::new(&backend.product.token());
    let router = router::router(Arc::new(backend));
    server::run(listeners, server::ApiService::new(router, headers), shutdown).await;
}
