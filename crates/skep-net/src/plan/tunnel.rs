//! Who may send VXLAN packets to this host: nodes of the swarm.
//!
//! The kernel gives a VXLAN packet to the device with its id whoever sent it, and so anybody who
//! reaches the host's UDP port would be on every overlay. Here packets pass from addresses that a peer
//! record names, and all others are counted and dropped. A node whose record is not here yet could not
//! be answered anyhow: the same record leads the answer to it.
//!
//! The counted rule is in a chain that does not change when nodes come and go, because a chain that is
//! written anew begins to count at zero.
//!
//! Connection tracking leaves the packets alone in both directions. Their source ports vary with what
//! they carry, so it would keep an entry for every connection inside, a second time and in the table
//! of the host, and learn nothing from it.

use super::Ruleset;
use crate::model::Cluster;
use crate::world::World;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The chain with the rule that counts and drops.
const CHAIN: &str = "tunnel";
/// The chain that lets nodes of the swarm pass.
const PEERS: &str = "tunnel-peers";

/// The rules of the host's namespace.
pub fn guard(rules: &mut Ruleset, world: &World, cluster: &Cluster) {
    let port = cluster.vxlan_port;
    let own = cluster.data_path_addr;
    if own.is_ipv4() {
        for (chain, hook, side) in
            [("tunnel-in", "prerouting", "daddr"), ("tunnel-out", "output", "saddr")]
        {
            rules
                .base(chain, "filter", hook, -300)
                .rule(format!("ip {side} {own} udp dport {port} notrack"));
        }
    }
    let chain = rules.base(CHAIN, "filter", "input", 0);
    chain.rule(format!("udp dport {port} jump {PEERS}"));
    chain.rule(format!("udp dport {port} counter drop"));
    let peers: BTreeSet<IpAddr> = world
        .running
        .remote_peers
        .values()
        .map(|peer| peer.tunnel_endpoint_ip)
        .filter(|ip| ip.is_ipv4() && *ip != cluster.data_path_addr)
        .collect();
    let chain = rules.chain(PEERS);
    if !peers.is_empty() {
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        chain.rule(format!("ip saddr {{ {} }} accept", peers.join(", ")));
    }
}
