//! What the kernel and the host offer, and what is lost without it. Tried out in a
//! namespace that is thrown away, because a configuration file can lie.

use crate::apply::{Nft, links, routes};
use skep_sys::netns::NetNs;

/// One thing that was looked at when the network started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Short name, such as `nftables`.
    pub feature: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// What was found, for people.
    pub detail: String,
    /// What does not work without it.
    pub disables: &'static str,
}

const EVERYTHING: &str = "all container networks";
const NAT: &str = "published ports, outbound connections, name resolution and load balancing";
const TURNS: &str = "load balancing over more than one task";

/// The feature that rules about sockets need.
pub const SOCKET: &str = "nftables socket";

/// Rules that use each thing the plans use.
const RULES: [(&str, &str, &str); 5] = [
    ("nftables nat", "add chain ip probe c { type nat hook prerouting priority -100; }", NAT),
    ("nftables fib", "add rule ip probe c fib daddr type local counter", "published ports"),
    (
        "nftables numgen",
        "add map ip probe m { typeof numgen inc mod 65536 : ip daddr; size 16; }\n\
         add rule ip probe c dnat to numgen inc mod 2 map @m",
        TURNS,
    ),
    (
        "nftables masquerade",
        "add chain ip probe p { type nat hook postrouting priority 100; }\nadd rule ip probe p masquerade",
        "outbound connections",
    ),
    (
        SOCKET,
        "add rule ip probe c tcp dport 80 socket wildcard { 0, 1 } accept",
        "the short way from a published port to a task of the same host",
    ),
];

/// Looks. Blocks for some ten milliseconds.
pub fn run(nft: &Nft) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut note = |feature, disables, found: Result<String, String>| {
        let available = found.is_ok();
        let detail = found.unwrap_or_else(|error| error);
        checks.push(Check { feature, available, detail, disables });
    };
    note("nft program", NAT, nft.version().map_err(|e| e.to_string()));
    let probe = match NetNs::anonymous() {
        Ok(probe) => probe,
        Err(error) => {
            note("network namespaces", EVERYTHING, Err(error.to_string()));
            return checks;
        }
    };
    note("network namespaces", EVERYTHING, Ok("works".to_owned()));
    for (feature, disables, found) in links::probe(&probe) {
        note(feature, disables, found.map(|()| "works".to_owned()).map_err(|e| e.to_string()));
    }
    let found = routes::probe(&probe).map(|()| "works".to_owned()).map_err(|e| e.to_string());
    note("routing rules", "replies of the routing mesh", found);
    for (feature, rule, disables) in RULES {
        let base = "add table ip probe\nadd chain ip probe c { type nat hook prerouting priority -100; }\n";
        let found = match probe.run(|| nft.transact("probe", &format!("{base}{rule}\n"))) {
            Ok(Ok(())) => Ok("works".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        note(feature, disables, found);
    }
    checks
}
