//! Ports of the routing mesh that this host does not serve.

use crate::ids::ServiceId;
use skep_types::Protocol;
use std::collections::BTreeMap;

/// A port of the routing mesh that something else on this host holds. Other hosts may serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedPort {
    /// The service that publishes it.
    pub service: ServiceId,
    /// Its name.
    pub service_name: String,
    /// Who holds the port, for people, causes included.
    pub reason: String,
}

/// By protocol and published port.
pub type BlockedPorts = BTreeMap<(Protocol, u16), BlockedPort>;
