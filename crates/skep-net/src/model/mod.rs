//! The nouns of the network room: what callers hand in and get back.

mod blocked;
mod cluster;
mod endpoint;
mod network;
mod record;
mod sandbox;

pub use blocked::{BlockedPort, BlockedPorts};
pub use cluster::{Cluster, OverlayNetwork, OverlaySubnet};
pub use endpoint::{EndpointInfo, EndpointSpec, ServiceAttachment};
pub use network::{
    Driver, IpamSpec, Network, NetworkContainer, NetworkCreate, NetworkInspect, NetworkPeer, Scope,
    Subnet, option_keys,
};
pub use record::{EndpointRecord, LocalRecords, PeerRecord, PublishedPort, RemoteChange};
pub use sandbox::{
    ExtraHost, PortBinding, PortSpec, SandboxAdoption, SandboxInfo, SandboxMode, SandboxSpec,
};
