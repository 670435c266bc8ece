//! What can go wrong, sorted so that the door can choose a status code.

pub use skep_types::ErrorKind;

use crate::cidr::Cidr;
use skep_types::Protocol;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

/// Errors of networks, sandboxes, endpoints and their realisation in the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// No network has this name, id or id prefix.
    #[error("network {0} not found")]
    NetworkNotFound(String),
    /// Several networks' ids begin so.
    #[error("network {prefix} is ambiguous ({matches} matches found on id prefix)")]
    NetworkAmbiguous {
        /// What was asked for.
        prefix: String,
        /// How many it could be.
        matches: usize,
    },
    /// The name is in use by a local network.
    #[error("network with name {0} already exists")]
    NetworkNameTaken(String),
    /// One of `bridge`, `host`, `none`.
    #[error("{0} is a pre-defined network and cannot be removed")]
    NetworkPredefined(String),
    /// A predefined name was asked for.
    #[error("operation is not permitted on predefined {0} network")]
    NetworkNameReserved(String),
    /// Endpoints hold the network.
    #[error("error while removing network: network {name} has active endpoints ({holders})")]
    NetworkInUse {
        /// Network name.
        name: String,
        /// `name:"…" id:"…"` of each endpoint.
        holders: String,
    },
    /// A swarm's network was named where only local ones can be meant.
    #[error("network {0} is managed by the swarm")]
    NetworkOfSwarm(String),
    /// Gossip cannot listen.
    #[error("cannot listen for gossip on {address} (TCP and UDP)")]
    Gossip {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The swarm's gossip keys are of no use.
    #[error("the swarm's gossip keys are of no use")]
    GossipKeys(#[source] skep_gossip::KeyringError),
    /// The subnet collides.
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {pool} with {other}"
    )]
    PoolOverlaps {
        /// What was asked for.
        pool: Cidr,
        /// What is there: a network's name or a route.
        other: String,
    },
    /// The subnet collides with a route of this host.
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {pool} with {route}: \
         choose another subnet, or take that away first"
    )]
    PoolRouted {
        /// What was asked for.
        pool: Cidr,
        /// What is there.
        route: skep_types::HostRoute,
    },
    /// Every default pool is taken.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// A parameter that cannot be.
    #[error("{what}: {value}: {why}")]
    Invalid {
        /// Name of the parameter.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The address is taken.
    #[error("Address already in use: {address} on network {network}")]
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// Network name.
        network: String,
    },
    /// No address is left.
    #[error("no available IPv4 addresses on network {network} ({subnet})")]
    AddressesExhausted {
        /// Network name.
        network: String,
        /// Where was looked.
        subnet: Cidr,
    },
    /// The static address is outside every subnet of the network.
    #[error("no configured subnet contains IP address {address} on network {network}")]
    AddressOutside {
        /// The address.
        address: Ipv4Addr,
        /// Network name.
        network: String,
    },
    /// Static addresses need a subnet that a user chose.
    #[error("user specified IP address is supported on user defined networks only")]
    StaticAddressUnsupported,
    /// Aliases need name resolution.
    #[error("network-scoped aliases are only supported for user-defined networks")]
    AliasesUnsupported,
    /// A plain container on an overlay that is not attachable.
    #[error(
        "Could not attach to network {0}: rpc error: code = PermissionDenied desc = network {0} not manually attachable"
    )]
    NotAttachable(String),
    /// The sandbox is on this network already.
    #[error("endpoint with name {name} already exists in network {network}")]
    EndpointExists {
        /// Container name.
        name: String,
        /// Network name.
        network: String,
    },
    /// The sandbox is not on this network.
    #[error("container {container} is not connected to the network {network}")]
    NotConnected {
        /// Container name.
        container: String,
        /// Network name.
        network: String,
    },
    /// Host mode and other networks exclude each other.
    #[error(
        "container sharing network namespace with another container or host cannot be connected to any other network"
    )]
    SharedNamespace,
    /// The sandbox does not exist.
    #[error("no network sandbox {0}")]
    SandboxNotFound(String),
    /// The sandbox exists.
    #[error("network sandbox {0} exists already")]
    SandboxExists(String),
    /// The host port is held.
    #[error("Bind for {host_ip}:{port} failed: port is already allocated{holder}")]
    PortTaken {
        /// Address on the host.
        host_ip: Ipv4Addr,
        /// Port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
        /// Who has it, as ` (held by …)`; empty when it could not be found out.
        holder: String,
    },
    /// The host port cannot be had for another reason, such as an address that is not this host's.
    #[error("failed to bind host port {host_ip}:{port}/{protocol}")]
    PortUnusable {
        /// Address on the host.
        host_ip: Ipv4Addr,
        /// Port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// No port of the range is free.
    #[error("all ports are allocated: {first}-{last}/{protocol} on {host_ip}")]
    PortsExhausted {
        /// Address on the host.
        host_ip: Ipv4Addr,
        /// First port tried.
        first: u16,
        /// Last port tried, included.
        last: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// The overlay cannot be used.
    #[error("overlay network {network} cannot be used: {why}")]
    Overlay {
        /// Network name.
        network: String,
        /// Why.
        why: &'static str,
    },
    /// Another daemon has this host's network.
    #[error(
        "another skep daemon manages the network of this host; stop it, or start this one in a network \
         namespace of its own"
    )]
    HostManaged,
    /// It could not be told whether another daemon has this host's network.
    #[error("cannot claim the network of this host")]
    HostClaim {
        /// Cause.
        source: io::Error,
    },
    /// The host has a table of our name that no daemon wrote.
    #[error(
        "the nftables table \"ip skep\" of this host is somebody else's: it does not say that a skep daemon wrote \
         it; rename it, or delete it (nft delete table ip skep) if nothing of it is needed"
    )]
    RulesOfSomebody,
    /// The host's rules were written by a daemon with another data root.
    #[error(
        "the nftables table \"ip skep\" of this host belongs to the skep daemon with the data root {data_root}, \
         whose containers may still use it; start that one again, or delete the table (nft delete table ip \
         skep) if nothing of it is needed"
    )]
    RulesOfAnother {
        /// Whose they are.
        data_root: String,
    },
    /// A namespace is pinned where ours is to be.
    #[error(
        "{} is a network namespace that skep did not make, perhaps Docker's; give skep an --exec-root of its \
         own, or remove it if nobody uses it",
        path.display()
    )]
    PinOfAnother {
        /// Where.
        path: PathBuf,
    },
    /// Another device has the VXLAN id on this port.
    #[error(
        "VXLAN id {vni} on UDP port {port} is used by somebody else on this host; remove that device, or give \
         the swarm another port with docker swarm init --data-path-port"
    )]
    VxlanOfAnother {
        /// VXLAN id.
        vni: u32,
        /// UDP port.
        port: u16,
    },
    /// iptables could not be asked to let containers' packets through.
    #[error("cannot get packets of network namespace {namespace} past iptables' FORWARD chain")]
    Gate {
        /// Namespace name.
        namespace: String,
        /// Cause, with what iptables said.
        source: io::Error,
    },
    /// A namespace could not be made, entered or removed.
    #[error("cannot {action} network namespace {}", path.display())]
    Namespace {
        /// What was tried.
        action: &'static str,
        /// Where it is or was to be pinned.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The kernel refused a link, address, route or neighbour.
    #[error("kernel refused to {action} in network namespace {namespace}")]
    Netlink {
        /// What was tried, with the interface or address.
        action: String,
        /// Namespace name.
        namespace: String,
        /// Cause.
        source: io::Error,
    },
    /// nftables refused a transaction; nothing of it was done.
    #[error("nftables refused the rules of network namespace {namespace}: {message}")]
    Nft {
        /// Namespace name.
        namespace: String,
        /// What `nft` said.
        message: String,
    },
    /// `nft` wrote something that cannot be read.
    #[error("cannot read the rules of network namespace {namespace}")]
    NftListing {
        /// Namespace name.
        namespace: String,
        /// Cause.
        source: serde_json::Error,
    },
    /// Nothing that a trace could start from.
    #[error(
        "no container of this host is called {0}, and it is neither this host nor one of the swarm"
    )]
    TraceOrigin(String),
    /// Another host's kernel is not read from here.
    #[error(
        "{host} is another host, whose kernel can be read there only: trace {target} on {host}"
    )]
    TraceElsewhere {
        /// What was asked for.
        target: String,
        /// The other host.
        host: String,
    },
    /// Namespaces came and went faster than they could be read.
    #[error("the network of this host changed too fast for {0} to be traced; try again")]
    TraceUnsettled(String),
    /// The nftables program could not be run.
    #[error("cannot run {}", program.display())]
    NftProgram {
        /// The program.
        program: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A namespace is not as planned. What is missing is tried again later.
    #[error("cannot bring network namespace {namespace} into its planned state")]
    Apply {
        /// Namespace name.
        namespace: String,
        /// Cause, shared by all who waited for it.
        source: Arc<NetError>,
    },
    /// A change that has to outlive the daemon could not be written down, and was taken back.
    #[error("cannot store the change of this host's networks")]
    NotStored {
        /// Cause, shared by all who waited for it.
        source: Arc<NetError>,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A state file does not hold what it should.
    #[error("cannot use state file {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: skep_types::stored::Unreadable,
    },
    /// The embedded resolver could not open its sockets.
    #[error("cannot open the resolver's sockets in sandbox {sandbox}")]
    DnsSocket {
        /// The sandbox.
        sandbox: String,
        /// Cause.
        source: io::Error,
    },
    /// The network room is shutting down.
    #[error("the network is shutting down")]
    Closed,
}

impl NetError {
    /// What a caller should make of it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NetworkNotFound(_) | Self::SandboxNotFound(_) | Self::TraceOrigin(_) => {
                ErrorKind::NotFound
            }
            Self::NetworkNameTaken(_) | Self::SandboxExists(_) => ErrorKind::Conflict,
            Self::NetworkAmbiguous { .. }
            | Self::Invalid { .. }
            | Self::AddressOutside { .. }
            | Self::StaticAddressUnsupported
            | Self::SharedNamespace
            | Self::AliasesUnsupported
            | Self::TraceElsewhere { .. } => ErrorKind::InvalidParameter,
            Self::NetworkPredefined(_)
            | Self::NetworkNameReserved(_)
            | Self::NetworkInUse { .. }
            | Self::NetworkOfSwarm(_)
            | Self::NotAttachable(_)
            | Self::PoolOverlaps { .. }
            | Self::PoolRouted { .. }
            | Self::AddressInUse { .. }
            | Self::EndpointExists { .. }
            | Self::NotConnected { .. }
            | Self::Overlay { .. } => ErrorKind::Forbidden,
            _ => ErrorKind::System,
        }
    }
}

/// Result of the network room.
pub type Result<T, E = NetError> = std::result::Result<T, E>;
