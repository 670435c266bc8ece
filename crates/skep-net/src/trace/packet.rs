//! The packet that is followed: the first one of a connection.

use crate::cidr::Mac;
use skep_types::Protocol;
use std::net::Ipv4Addr;

/// What rules and routes may look at.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Source address; `None` for anybody.
    pub source: Option<Ipv4Addr>,
    pub destination: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
    /// Ethernet source in the current namespace.
    pub mac: Option<Mac>,
    pub mark: u32,
    /// What connection tracking of the current namespace knows.
    pub connection: Connection,
}

/// A connection as one namespace's connection tracking sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connection {
    pub mark: u32,
    /// Destination and port before any translation; `None` until it is under way.
    pub original: Option<(Ipv4Addr, u16)>,
    /// Not its first packet.
    pub established: bool,
    pub dnat: bool,
    pub snat: bool,
    /// Connection tracking was told to leave the packet alone: it is never translated.
    pub untracked: bool,
}

/// Where in its namespace a packet is.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Interface in; `None` where the packet is made.
    pub incoming: Option<String>,
    /// Interface out, once routed.
    pub outgoing: Option<String>,
    /// Whether the destination is the namespace's own.
    pub local: bool,
    /// Whether the source is.
    pub own_source: bool,
}
