//! How a sandbox's queries reach the daemon's sockets.

use super::Ruleset;
use std::net::Ipv4Addr;

/// Where containers ask.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Sends 127.0.0.11:53 to the ports the sockets were given. The sockets are not
/// bound to port 53 itself, so that a container can serve DNS on all its addresses.
pub fn redirect(rules: &mut Ruleset, (udp, tcp): (u16, u16)) {
    let chain = rules.nat("output");
    chain.rule(format!("ip daddr {RESOLVER} udp dport 53 dnat to {RESOLVER}:{udp}"));
    chain.rule(format!("ip daddr {RESOLVER} tcp dport 53 dnat to {RESOLVER}:{tcp}"));
}
