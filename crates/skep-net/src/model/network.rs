//! Networks as the Engine API shows them.

use crate::cidr::{Cidr, Mac};
use crate::ids::{EndpointId, NetworkId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Names of the driver options that mean something here.
pub mod option_keys {
    /// Name of the Linux bridge.
    pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
    /// `false` keeps containers on the network from talking to each other.
    pub const ICC: &str = "com.docker.network.bridge.enable_icc";
    /// `false` lets containers' own addresses out.
    pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
    /// Address that published ports bind to when none is given.
    pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
    /// MTU in bytes, decimal.
    pub const MTU: &str = "com.docker.network.driver.mtu";
    /// Marks the network named `bridge`.
    pub const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
    /// Overlay: VXLAN ids, one per subnet, separated by commas.
    pub const VXLAN_IDS: &str = "com.docker.network.driver.overlay.vxlanid_list";
}

/// Who carries a network's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge on this host.
    Bridge,
    /// The host's own namespace.
    Host,
    /// Nothing but loopback.
    Null,
    /// A swarm's VXLAN network.
    Overlay,
}

impl Driver {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
            Self::Overlay => "overlay",
        }
    }
}

/// How far a network reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This host.
    Local,
    /// Every node of the swarm.
    Swarm,
}

/// One subnet as asked for; empty fields are chosen here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamSpec {
    /// The subnet, in CIDR form.
    pub subnet: Option<Cidr>,
    /// The bridge's own address; the first one otherwise.
    pub gateway: Option<Ipv4Addr>,
    /// Part of the subnet that containers' addresses come from.
    pub ip_range: Option<Cidr>,
    /// Addresses kept free, by name.
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
}

/// A request for a local network.
#[derive(Debug, Clone, Default)]
pub struct NetworkCreate {
    /// 1 or more of letters, digits, `_`, `.`, `-`; unique among local networks.
    pub name: String,
    /// `bridge` or empty. `host`, `null` and `overlay` are refused.
    pub driver: String,
    /// Subnets; one is chosen from the pools when empty.
    pub ipam: Vec<IpamSpec>,
    /// IPAM driver's options, kept and shown.
    pub ipam_options: BTreeMap<String, String>,
    /// Whether the network has no way out.
    pub internal: bool,
    /// Kept and shown; every local network is attachable.
    pub attachable: bool,
    /// Refused with an explanation: only IPv4 is served.
    pub enable_ipv6: bool,
    /// Driver options, see [`option_keys`].
    pub options: BTreeMap<String, String>,
    /// Labels, kept and shown.
    pub labels: BTreeMap<String, String>,
}

/// A subnet in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The subnet, host bits clear.
    pub subnet: Cidr,
    /// Part of it that addresses are handed out from, when narrowed.
    pub ip_range: Option<Cidr>,
    /// The bridge's own address. Absent only where the network has no gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Addresses kept free, by name.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
}

/// A network, local or a swarm's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Identity.
    pub id: NetworkId,
    /// Name.
    pub name: String,
    /// When it was made, nanoseconds since 1970-01-01 UTC.
    pub created_unix_nanos: i64,
    /// Who carries its frames.
    pub driver: Driver,
    /// How far it reaches.
    pub scope: Scope,
    /// Subnets, the first one is where addresses are taken from by default.
    pub subnets: Vec<Subnet>,
    /// IPAM driver's options, kept and shown.
    #[serde(default)]
    pub ipam_options: BTreeMap<String, String>,
    /// No way out.
    pub internal: bool,
    /// Whether plain containers may join.
    pub attachable: bool,
    /// Whether it is the swarm's ingress network.
    pub ingress: bool,
    /// Driver options as shown.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// The Linux bridge's name in the host (bridge driver only).
    pub fn bridge_name(&self) -> String {
        match self.options.get(option_keys::BRIDGE_NAME) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("br-{}", self.id.short(12)),
        }
    }

    /// Whether containers may talk to each other.
    pub fn icc(&self) -> bool {
        self.flag(option_keys::ICC, true)
    }

    /// Whether traffic leaving it is masqueraded.
    pub fn masquerade(&self) -> bool {
        self.flag(option_keys::MASQUERADE, true)
    }

    /// MTU from the options, `fallback` without one.
    pub fn mtu(&self, fallback: u16) -> u16 {
        self.options.get(option_keys::MTU).and_then(|v| v.parse().ok()).unwrap_or(fallback)
    }

    /// Whether it is the network named `bridge`, on which names are not resolved.
    pub fn is_default_bridge(&self) -> bool {
        self.flag(option_keys::DEFAULT_BRIDGE, false)
    }

    /// Whether it is one of the three that are always there.
    pub fn is_predefined(&self) -> bool {
        self.scope == Scope::Local
            && (self.is_default_bridge() || matches!(self.driver, Driver::Host | Driver::Null))
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        match self.options.get(key).map(String::as_str) {
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
            _ => default,
        }
    }
}

/// One entry of `Containers` in a network's inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkContainer {
    /// Container or endpoint name, such as `web.1.…`, `gateway_161c8a8cd5e7`, `ingress-endpoint`.
    pub name: String,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Ethernet address.
    pub mac: Mac,
    /// Address with the subnet's prefix.
    pub ipv4: Cidr,
}

/// Another node (or this one) that takes part in an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPeer {
    /// Gossip name, 12 hex.
    pub name: String,
    /// Data path address.
    pub ip: IpAddr,
}

/// A network with what is on it on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInspect {
    /// The network.
    pub network: Network,
    /// By container id; `lb-<network>` and `ingress-sbox` for the load balancers.
    pub containers: BTreeMap<String, NetworkContainer>,
    /// Nodes on the overlay; empty for local networks.
    pub peers: Vec<NetworkPeer>,
}
