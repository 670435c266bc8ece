//! A host's network.
//!
//! **What it promises.** Callers say what should be: local networks, sandboxes with
//! endpoints and published ports, the swarm's overlays and who answers for which
//! service. From that, and nothing else, [`plan`](self) works out what each network
//! namespace must contain; the apply half compares the plan with the kernel and acts
//! on the difference. Every call that changes something returns when the kernel has
//! it, or with an error and the change undone. Running twice is harmless, and after a
//! crash the kernel is read back and adopted: rules that are already right are not
//! touched.
//!
//! **Shape.** `model` are the nouns; `world` is the desired state with its pure
//! operations; `plan` turns a world into one plan per namespace; `apply` speaks
//! netlink and nftables; `dns` answers names; [`Net`] is the handle that ties them.
//!
//! **Namespaces.** The host's own; one per sandbox (`<12 hex>`); per overlay
//! `1-<10 of its id>` with bridge and VXLAN device and `lb_<9 of its id>` with the
//! virtual addresses; `ingress_sbox` for the routing mesh. All but the first are
//! pinned under `<exec root>/netns`.
//!
//! **Other nodes** are records, nothing more: [`Net::apply_remote`] adds neighbours,
//! forwarding entries and backends exactly as local endpoints do.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod apply;
mod checks;
mod cidr;
mod config;
mod controller;
mod dns;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod gossip;
mod host_routes;
mod ids;
mod merge;
mod metrics;
mod model;
mod name_files;
mod net;
mod plan;
mod ports;
mod sandbox_files;
mod slack;
mod sockets;
mod state;
mod storing;
mod trace;
mod world;

pub use apply::{HostClaim, TrafficCounts};
pub use checks::Check;
pub use cidr::{Mac, ParseMacError};
pub use config::{AddressPool, DefaultBridge, DnsOptions, NetConfig};
pub use error::{ErrorKind, NetError, Result};
pub use gossip::{GossipKey, GossipSettings};
pub use ids::{EndpointId, NetworkId, SandboxId, ServiceId, hex_id};
pub use model::{
    BlockedPort, BlockedPorts, Cluster, Driver, EndpointInfo, EndpointRecord, EndpointSpec,
    ExtraHost, IpamSpec, LocalRecords, Network, NetworkContainer, NetworkCreate, NetworkInspect,
    NetworkPeer, OverlayNetwork, OverlaySubnet, PeerRecord, PortBinding, PortSpec, PublishedPort,
    RemoteChange, SandboxAdoption, SandboxInfo, SandboxMode, SandboxSpec, Scope, ServiceAttachment,
    Subnet, option_keys,
};
pub use net::{Net, ReconcileReport};
pub use skep_types::{Cidr, ParseCidrError};
pub use trace::{
    Branch as TraceBranch, Candidate as TraceCandidate, Hop as TraceHop,
    Interface as TraceInterface, KnownPort, KnownService, Origin as TraceOrigin,
    OriginKind as TraceOriginKind, Outcome as TraceOutcome, PacketView, Path as TracePath,
    Reason as TraceReason, RemoteNode, Role as TraceRole, Step as TraceStep, Trace, TraceQuery,
    Verdict as TraceVerdict,
};
