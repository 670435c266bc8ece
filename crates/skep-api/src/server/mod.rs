//! Sockets, connections and their end.
//!
//! One task per connection, HTTP/1.1 with upgrades. A daemon that stops closes its listeners first,
//! lets running requests finish for [`GRACE`], and then drops what is left: endless ones such as
//! `events` are left, and their clients see the connection end.

mod body;
mod connection;
mod headers;
mod listener;
mod origin;
mod service;

pub(crate) use headers::ServerHeaders;
pub use listener::{ListenError, Listener};
pub(crate) use service::ApiService;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests may go on after shutdown begins. Changes run in tasks of their own and are not
/// cut off by it.
pub const GRACE: Duration = Duration::from_secs(2);

/// Serves all listeners until `shutdown` is cancelled and connections have ended.
pub(crate) async fn run(
    listeners: Vec<Listener>,
    service: ApiService,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        tracing::debug!(listener = %listener, "accepting connections");
        let (service, shutdown, connections) =
            (service.clone(), shutdown.clone(), connections.clone());
        accepting.spawn(listener.accept_all(service, shutdown, connections));
    }
    while let Some(ended) = accepting.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener's task ended by itself");
        }
    }
    connections.close();
    connections.wait().await;
}

/// As [`run`], for one port that anybody may reach.
pub(crate) async fn run_tcp(
    listener: tokio::net::TcpListener,
    service: ApiService,
    shutdown: CancellationToken,
) {
    match Listener::open_to_all(listener) {
        Ok(listener) => run(vec![listener], service, shutdown).await,
        Err(error) => tracing::error!(%error, "cannot serve a port"),
    }
}

#[cfg(test)]
mod tests;
