//! From a world to what every namespace must contain. Pure: same world, same plan.
//!
//! A plan leaves the apply half no choices. To carry something new, add it to the
//! world, work it into one of the namespace files here, and teach `apply` only if a
//! new kind of kernel object appears.

mod digest;
mod dns;
mod host;
mod ingress;
mod overlay;
mod planner;
mod ruleset;
mod sandbox;
#[cfg(test)]
pub mod tests;
mod tunnel;
mod turns;
mod virtual_address;

pub use digest::digest;
pub use dns::RESOLVER;
pub use host::ALIAS;
pub use planner::{Planned, Planner};
pub use ruleset::{Change, Ruleset, RulesetDigest};
pub use turns::{PLACES, TABLE, Turns};

use crate::cidr::{Cidr, Mac};
use crate::ids::{NetworkId, SandboxId};
use crate::world::World;
use serde::{Deserialize, Serialize};
use skep_types::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Bytes that VXLAN over IPv4 adds to a packet.
pub const VXLAN_OVERHEAD: u16 = 50;
/// High half of the connection marks that remember through which load balancer a
/// connection came; the low half is the host part of its address.
pub const MARK_BASE: u32 = 0x5ce0_0000;
/// Which bits of a mark say that it is ours.
pub const MARK_MASK: u32 = 0xffff_0000;

/// How the file names of [`NsName::Overlay`] begin, and no others.
pub const OVERLAY_PREFIX: &str = "1-";

/// A network namespace by its role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NsName {
    /// The daemon's own.
    Host,
    /// Bridge and VXLAN device of an overlay.
    Overlay(NetworkId),
    /// Virtual addresses of an overlay.
    Balancer(NetworkId),
    /// The routing mesh.
    Ingress,
    /// A container's.
    Sandbox(SandboxId),
}

impl NsName {
    /// Whether it is a container's.
    pub fn is_sandbox(&self) -> bool {
        matches!(self, Self::Sandbox(_))
    }

    /// File name under `netns/`; `None` for the host.
    pub fn file(&self) -> Option<String> {
        match self {
            Self::Host => None,
            Self::Overlay(id) => Some(format!("{OVERLAY_PREFIX}{}", id.short(10))),
            Self::Balancer(id) => Some(format!("lb_{}", id.short(9))),
            Self::Ingress => Some("ingress_sbox".to_owned()),
            Self::Sandbox(id) => Some(id.short(12).to_owned()),
        }
    }
}

impl fmt::Display for NsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file().unwrap_or_else(|| "host".to_owned()))
    }
}

/// What one namespace must contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NsPlan {
    /// Bridges, by name.
    pub bridges: Vec<BridgePlan>,
    /// VXLAN devices.
    pub vxlans: Vec<VxlanPlan>,
    /// Interfaces that end on a bridge of another (or this) namespace.
    pub cables: Vec<CablePlan>,
    /// Bridge ports that the other ends of cables have here.
    pub ports: BTreeSet<String>,
    /// Routes beyond those that addresses bring.
    pub routes: Vec<RoutePlan>,
    /// Marks that choose a routing table; the table's number is the mark.
    pub marks: Vec<u32>,
    /// Settings below `/proc/sys`, in order.
    pub sysctls: Vec<(String, String)>,
    /// nftables rules but those for virtual addresses: see [`Planned::ruleset`].
    pub rules: Ruleset,
    /// The same of flows whose remembered translation must agree with the rules: see [`Planned::flows`].
    pub flows: Vec<Flow>,
}

impl NsPlan {
    /// Whether only rules, flows, ports and peers differ: what can be changed one by one.
    pub fn differs_lightly(&self, other: &Self) -> bool {
        let vxlans = |plan: &Self| -> Vec<VxlanPlan> {
            let bare = |v: &VxlanPlan| VxlanPlan { peers: BTreeSet::new(), ..v.clone() };
            plan.vxlans.iter().map(bare).collect()
        };
        self.bridges == other.bridges
            && self.cables == other.cables
            && self.routes == other.routes
            && self.marks == other.marks
            && self.sysctls == other.sysctls
            && vxlans(self) == vxlans(other)
    }
}

/// A Linux bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePlan {
    /// Name.
    pub name: String,
    /// Bytes.
    pub mtu: u16,
    /// Addresses with their subnet's prefix length.
    pub addresses: Vec<Cidr>,
    /// Who owns it; kept as the interface's alias.
    pub alias: String,
}

/// A VXLAN device, port of a bridge in the same namespace, underlay in the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanPlan {
    /// Name.
    pub name: String,
    /// VXLAN id.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Address that packets are sent from.
    pub local: IpAddr,
    /// Bytes.
    pub mtu: u16,
    /// The bridge.
    pub bridge: String,
    /// Remote endpoints: address, Ethernet address, node.
    pub peers: BTreeSet<(Ipv4Addr, Mac, IpAddr)>,
}

/// An interface and the bridge port at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CablePlan {
    /// Name in this namespace.
    pub interface: String,
    /// Ethernet address.
    pub mac: Mac,
    /// Bytes, both ends.
    pub mtu: u16,
    /// Addresses with prefix lengths.
    pub addresses: BTreeSet<Cidr>,
    /// Where the other end is.
    pub port_ns: NsName,
    /// Its name there.
    pub port: String,
    /// The bridge there.
    pub bridge: String,
    /// Whether the port may only talk to the bridge itself.
    pub isolated: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutePlan {
    /// Next hop.
    pub via: Ipv4Addr,
    /// Interface.
    pub interface: String,
    /// Table, 254 for the main one. The destination is always the default.
    pub table: u32,
}

/// Flows that a rule redirects. Connection tracking remembers a flow's first
/// translation, so entries that disagree with the rules must go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Protocol, any when `None`.
    pub protocol: Option<Protocol>,
    /// Original destination, any local one when `None`.
    pub address: Option<Ipv4Addr>,
    /// Original destination port, any when `None`.
    pub port: Option<u16>,
    /// Whether the rules lead new connections anywhere.
    pub leads: bool,
    /// Where it may lead, drained ones included.
    pub backends: Arc<BTreeSet<Ipv4Addr>>,
}

/// All plans of a host.
pub type HostPlan = BTreeMap<NsName, Planned>;

/// Works out what every namespace must contain.
pub fn plan(world: &World) -> HostPlan {
    Planner::default().plan(world, &world.services())
}

/// Settings of every namespace but the host's: no IPv6 noise on new interfaces, and
/// no reverse-path filter, because replies may take another way than requests.
fn quiet_sysctls() -> Vec<(String, String)> {
    [
        ("net/ipv6/conf/default/disable_ipv6", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec()
}

/// One destination, or several in turn.
fn in_turn<T: fmt::Display>(to: &[T]) -> String {
    if let [only] = to {
        return only.to_string();
    }
    let pairs: Vec<String> = to.iter().enumerate().map(|(n, one)| format!("{n} : {one}")).collect();
    format!("numgen inc mod {} map {{ {} }}", to.len(), pairs.join(", "))
}

/// What is stored beside a namespace's rules so that a new daemon can tell whether
/// they are still what it would write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Of the rules.
    pub rules: RulesetDigest,
    /// The kernel's nftables generation right after they were written.
    pub generation: u32,
    /// Of what the kernel showed, once that was looked at.
    #[serde(default)]
    pub listing: Option<u64>,
}
