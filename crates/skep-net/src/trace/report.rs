//! What a trace says. The JSON form of these types is a promise: fields are added,
//! never renamed or removed, while [`Trace::VERSION`] stays.

use serde::{Deserialize, Serialize};
use skep_types::Protocol;
use std::net::{IpAddr, Ipv4Addr};

/// The way of a connection's first packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// [`Trace::VERSION`].
    pub version: u32,
    /// As asked for.
    pub target: String,
    /// Where the packet starts.
    pub from: Origin,
    /// The service that is meant, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The way, up to where it ends or forks.
    pub path: Path,
    /// The sum over all branches.
    pub verdict: Verdict,
}

impl Trace {
    /// Version of the JSON form.
    pub const VERSION: u32 = 1;
}

/// Where a packet starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// What it is.
    pub kind: OriginKind,
    /// Name of the container; empty for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Kinds of starting points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginKind {
    /// Somebody who reaches this host over its network.
    Outside,
    /// A process on this host.
    Host,
    /// A process in a container of this host.
    Container,
}

/// A stretch of the way. Ends in `verdict`, or in `branches`, one of which each
/// connection takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// In order.
    pub hops: Vec<Hop>,
    /// One per address that may be chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<Branch>,
    /// How it ends where it does not fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// The way on after one of several addresses was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    /// The address and whose it is.
    pub candidate: Candidate,
    /// The way from there.
    pub path: Path,
}

/// An address that a connection may be led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The address.
    pub address: Ipv4Addr,
    /// Name of the task or container, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The other host that has it; none for this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<RemoteNode>,
    /// Whether this is the routing mesh's namespace, which chooses among tasks that the host does not reach
    /// by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mesh: bool,
    /// How many turns of a round it has.
    #[serde(default = "one")]
    pub turns: usize,
    /// Connections that connection tracking remembers as led there.
    pub connections: u64,
}

/// Turns of who has no more than others.
const fn one() -> usize {
    1
}

/// Another host of the swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteNode {
    /// Its data path address.
    pub address: IpAddr,
    /// Its host name, where this host is a manager and knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A namespace that the packet passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// File name below `netns/`; `host` for the host's own.
    pub namespace: String,
    /// What it is there for.
    pub role: Role,
    /// Name that belongs to the role: network, container or node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The interface over which it comes in; none where the packet is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// The packet as it comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<PacketView>,
    /// What happens to it, in order.
    pub steps: Vec<Step>,
}

/// What a namespace is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The host itself.
    Host,
    /// The routing mesh's balancer.
    Mesh,
    /// Bridge and tunnel of an overlay.
    Overlay,
    /// Holder of an overlay's virtual addresses.
    Balancer,
    /// A container.
    Container,
    /// Another host; told from records, not read.
    Remote,
}

/// An interface with its counters, which count all its traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Packets in since it was made.
    pub received: u64,
    /// Packets out since it was made.
    pub sent: u64,
    /// Packets it dropped in either direction.
    pub dropped: u64,
}

/// What a packet says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketView {
    /// Source address; none where anybody is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Ipv4Addr>,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Destination port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// One thing that happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Step {
    /// A name became addresses.
    Name {
        /// The name.
        name: String,
        /// The network on which it means something; `/etc/hosts` for that file.
        network: String,
        /// Addresses in the answer.
        answers: Vec<Ipv4Addr>,
    },
    /// A rule of nftables took effect.
    Rule {
        /// Family and table, such as `ip skep`.
        table: String,
        /// Chain.
        chain: String,
        /// The kernel's number for it.
        handle: u64,
        /// As `nft list ruleset` shows it.
        text: String,
        /// What it does to this packet.
        effect: String,
        /// Packets it counted, where it counts.
        #[serde(skip_serializing_if = "Option::is_none")]
        counted: Option<u64>,
    },
    /// One of these addresses is taken, connection by connection.
    Choice {
        /// `in turn` or `by chance`.
        how: String,
        /// What there is to choose from.
        candidates: Vec<Candidate>,
    },
    /// A mark was put on.
    Mark {
        /// `packet` or `connection`.
        on: String,
        /// Its value.
        value: u32,
    },
    /// The routing decision.
    Route {
        /// Destination of the route, `local` for the namespace's own addresses.
        destination: String,
        /// Next hop; none where the destination is on the link.
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<Ipv4Addr>,
        /// Interface out.
        interface: String,
        /// Number of the routing table, 254 for the main one.
        table: u32,
    },
    /// The next hop's Ethernet address.
    Neighbour {
        /// Next hop.
        address: Ipv4Addr,
        /// Its Ethernet address; none while the kernel has not asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
        /// The entry's state, such as `permanent`; `none` without an entry.
        state: String,
    },
    /// Over a bridge's port into another namespace.
    Port {
        /// The bridge.
        bridge: String,
        /// Its port.
        port: Interface,
    },
    /// Through a tunnel to another host.
    Tunnel {
        /// The VXLAN device.
        device: Interface,
        /// VXLAN id.
        vni: u32,
        /// UDP port.
        port: u16,
        /// Sender of the outer packet.
        local: IpAddr,
        /// Its receiver, from the forwarding entry.
        remote: IpAddr,
        /// Ethernet address of the forwarding entry.
        mac: String,
    },
    /// Somebody listens.
    Socket {
        /// Address that is listened on.
        address: IpAddr,
        /// Port.
        port: u16,
    },
    /// What connection tracking remembers of such connections here.
    Connections {
        /// How many.
        count: u64,
    },
    /// The way back of the answers.
    Reply {
        /// Next hop.
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<Ipv4Addr>,
        /// Interface out.
        interface: String,
        /// Number of the routing table.
        table: u32,
    },
    /// Something is not as it should be.
    Finding {
        /// What kind of thing.
        reason: Reason,
        /// For people.
        text: String,
    },
    /// Something to know.
    Remark {
        /// For people.
        text: String,
    },
}

/// How it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// What the sender sees.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Namespace in which it ends; empty where it never starts.
    pub at: String,
    /// For people.
    pub text: String,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Somebody listens where it arrives.
    Delivered,
    /// Another host of the swarm gets it; what it does there can be read there only.
    Remote,
    /// It leaves towards somewhere that is none of the swarm's business.
    Leaves,
    /// It depends on the address that is chosen.
    Mixed,
    /// Somebody else gets it.
    Astray,
    /// The sender is told no at once.
    Refused,
    /// The sender waits in vain.
    Dropped,
    /// There is nothing to send to.
    Unresolved,
}

impl Outcome {
    /// Whether the packet gets where it should, as far as can be seen from here.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Delivered | Self::Remote | Self::Leaves)
    }
}

/// Why a path ends as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nothing is wrong.
    Ok,
    /// The name means nothing where it is asked.
    NoSuchName,
    /// The embedded resolver cannot be reached from the container.
    NoResolver,
    /// The service has no task in rotation.
    NoTask,
    /// All tasks of the service are leaving rotation.
    AllDraining,
    /// The service does not publish the port.
    NotPublished,
    /// Something else on the host has the published port.
    PortNotFree,
    /// A rule that should be there is not.
    RuleMissing,
    /// A rule leads elsewhere than it should.
    RuleDiffers,
    /// A rule of ours says no.
    RuleDrops,
    /// A rule of somebody else says no.
    ForeignRule,
    /// A namespace that should be there is not.
    NamespaceMissing,
    /// An interface that should be there is not, or has not its address.
    LinkMissing,
    /// An interface is down or has no carrier.
    LinkDown,
    /// An interface is on no bridge, or on another one.
    LinkDetached,
    /// No route.
    NoRoute,
    /// The namespace does not forward packets.
    NotForwarding,
    /// Nobody has the address.
    NoSuchAddress,
    /// No forwarding or neighbour entry for another host's task.
    NoForwardingEntry,
    /// An entry of a bridge or of a neighbour table leads elsewhere than it should.
    EntryDiffers,
    /// Another host does not answer on the underlay.
    NodeUnreachable,
    /// Answers would take another way back.
    WayBack,
    /// Nobody listens on the port.
    PortClosed,
    /// Somebody listens on another address only.
    PortElsewhere,
    /// The packet goes in circles.
    Loop,
    /// Different branches end differently.
    SomeFail,
}
