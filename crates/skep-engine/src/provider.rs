use std::net::Ipv4Addr;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Somebody who has networks that reach beyond this host, and gives containers places on them.
///
/// The engine asks whenever a container that no swarm made is to be on a network that is not this
/// host's own. An implementer must uphold:
/// - after [`attach`](Self::attach) has returned a grant, `Engine::net` knows its network and the
///   address is nobody else's, until the grant is given back;
/// - a failed `attach` leaves nothing behind, or cleans it up later by itself;
/// - a grant that the engine does not keep ([`Engine::keeps_network_grant`](crate::Engine)) goes away
///   by itself: a daemon that was killed cannot give it back, and a `detach` may not get through.
pub trait NetworkProvider: Send + Sync + 'static {
    /// Whether there may be networks of this provider at all. While there are, a network that this
    /// host does not know may still exist.
    fn has_networks(&self) -> bool;

    /// Asks for a place on a network.
    ///
    /// # Errors
    /// `NotFound` for an unknown network, `Forbidden` for one that is not for single containers,
    /// `Unavailable` when no answer came in time.
    fn attach<'a>(&'a self, wish: &'a NetworkWish) -> BoxFuture<'a, Result<NetworkGrant>>;

    /// Gives a grant back. Returns when the provider has it or cannot be reached.
    fn detach<'a>(&'a self, grant: &'a NetworkGrant) -> BoxFuture<'a, ()>;
}

/// What a container asks a [`NetworkProvider`] for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkWish {
    /// Network by id, name or id prefix, as the user named it.
    pub network: String,
    /// 64 hex.
    pub container: String,
    /// A certain address; any if `None`.
    pub address: Option<Ipv4Addr>,
}

/// A container's place on a network, for as long as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkGrant {
    /// The provider's name for it.
    pub id: String,
    /// Id of the network, known to `Engine::net`.
    pub network: String,
    /// The container's address on it.
    pub address: Ipv4Addr,
}
