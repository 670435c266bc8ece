//! Where chains of turns lead, changed by a netlink transaction of our own. `nft` would be a process for each
//! namespace, and who stands behind a service changes in all containers of a network at once.
//!
//! What is sent is what `nft` sends for the rule's text, so that it lists it the same. The message and attribute
//! numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use super::frame::{self, NESTED};
use super::nfnetlink::{AF_INET, Nfnetlink};
use super::nft::NFTABLES;
use super::traffic::Traffic;
use crate::plan::{TABLE, Turns};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`, and the generation that the former expects.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENERATION: u16 = 1;
/// `NFT_MSG_*`.
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`, `NLM_F_APPEND`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// Set flags: `NFT_SET_ANONYMOUS`, `NFT_SET_CONSTANT`, `NFT_SET_MAP`.
const ANONYMOUS: u32 = 1;
const CONSTANT: u32 = 2;
const MAP: u32 = 8;
/// The first of the registers of 16 bytes, `NFT_REG_1`.
const REGISTER: u32 = 1;
/// Numbers by which `nft` knows types of data: `inet_proto`, `integer`, `ipv4_addr`.
const TYPE_PROTOCOL: u32 = 12;
const TYPE_INTEGER: u32 = 4;
const TYPE_ADDRESS: u32 = 7;
/// What `nft` keeps with a set to know how to show its keys: their byte order is the host's, resp. the types of keys and
/// values. The kernel does not look at it.
const PROTOCOLS_SHOWN: &[u8] =
    b"\x00\x04\x01\x00\x00\x00\x03\x0e\x00\x04\x09\x00\x00\x00\x01\x06\x00\x04\x10\x00\x00\x00";
const TURNS_SHOWN: &[u8] =
    b"\x00\x04\x01\x00\x00\x00\x01\x04\x02\x00\x00\x00\x06\x04\x00\x00\x00\x00";
/// `NFT_META_L4PROTO`, and the protocols that have ports.
const META_PROTOCOL: u32 = 16;
const PROTOCOLS: [u8; 3] = [6, 17, 132];
/// Elements in one message: their list's length is a 16-bit number, each takes 28 bytes.
const ELEMENTS: usize = 1024;

/// Has each chain of our table in the calling thread's namespace lead in turn to these addresses, or nowhere. All
/// or none, and only while nftables' generation there is `generation`: `false` if it is not.
pub fn change(
    traffic: &Arc<Traffic>,
    generation: u32,
    chains: &[(&str, Option<&Turns>)],
) -> io::Result<bool> {
    let mut netlink = Nfnetlink::open(traffic)?;
    match netlink.transact(|sequence| batch(sequence, generation, chains)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::ERESTART) => Ok(false),
        Err(error) => Err(error),
    }
}

fn batch(sequence: u32, generation: u32, chains: &[(&str, Option<&Turns>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |kind: u16, flags: u16, family: u8, resource: u16, attributes: &[Vec<u8>]| {
        let attributes = attributes.concat();
        let length = frame::HEADER + 4 + attributes.len();
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&[family, 0]);
        bytes.extend_from_slice(&resource.to_be_bytes());
        bytes.extend_from_slice(&attributes);
    };
    put(BATCH_BEGIN, 0, 0, NFTABLES, &[number(BATCH_GENERATION, generation)]);
    let mut ids = 1..;
    let last = chains.len().saturating_sub(1);
    for (place, (chain, turns)) in chains.iter().enumerate() {
        let mut put = |kind: u16, flags: u16, attributes: &[Vec<u8>]| {
            let all = [&[text(1, TABLE)], attributes].concat();
            put((NFTABLES << 8) | kind, flags, AF_INET, 0, &all);
        };
        // What is refused is told unasked; of what is done one word is enough, and many would not fit the socket.
        let ack = if place == last { ACK } else { 0 };
        put(DELETE_RULE, ack, &[text(2, chain)]);
        let Some(turns) = turns else { continue };
        let mut set = |set: &Set<'_>, lists: &[Vec<u8>]| {
            put(NEW_SET, CREATE, &set.declaration());
            for list in lists {
                put(NEW_ELEMENTS, CREATE, &[text(2, set.name), number(4, set.id), list.clone()]);
            }
        };
        let protocols = Set {
            name: "__set%d",
            id: ids.next().unwrap_or_default(),
            key: (TYPE_PROTOCOL, 1),
            value: None,
            size: PROTOCOLS.len(),
            shown: PROTOCOLS_SHOWN,
        };
        set(&protocols, &lists(PROTOCOLS.iter().map(|protocol| element(&[*protocol], None))));
        let next = match turns.to() {
            [only] => only_one(*only),
            several => {
                let map = Set {
                    name: "__map%d",
                    id: ids.next().unwrap_or_default(),
                    key: (TYPE_INTEGER, 4),
                    value: Some((TYPE_ADDRESS, 4)),
                    size: several.len(),
                    shown: TURNS_SHOWN,
                };
                set(&map, turns.kept(places));
                in_turn(&map)
            }
        };
        let rule = nested(4, &rule(&protocols, next));
        put(NEW_RULE, CREATE | APPEND, &[text(2, chain), rule]);
    }
    put(BATCH_END, 0, 0, NFTABLES, &[]);
    bytes
}

/// Lists of elements, as many in each as a message takes.
fn lists(elements: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let elements: Vec<Vec<u8>> = elements.collect();
    elements.chunks(ELEMENTS).map(|list| nested(3, list)).collect()
}

fn places(to: &[Ipv4Addr]) -> Vec<Vec<u8>> {
    lists((0u32..).zip(to).map(|(place, to)| element(&place.to_ne_bytes(), Some(*to))))
}

/// A set without a name of its own, which goes with the rule.
struct Set<'a> {
    name: &'a str,
    /// Its number in the transaction.
    id: u32,
    /// Type and bytes.
    key: (u32, u32),
    value: Option<(u32, u32)>,
    /// Elements.
    size: usize,
    shown: &'a [u8],
}

impl Set<'_> {
    /// `NFTA_SET_*`.
    fn declaration(&self) -> Vec<Vec<u8>> {
        let map = if self.value.is_some() { MAP } else { 0 };
        let size = u32::try_from(self.size).unwrap_or(u32::MAX);
        let mut attributes = vec![
            text(2, self.name),
            number(3, ANONYMOUS | CONSTANT | map),
            number(4, self.key.0),
            number(5, self.key.1),
        ];
        if let Some((kind, length)) = self.value {
            attributes.extend([number(6, kind), number(7, length)]);
        }
        attributes.extend([
            number(10, self.id),
            nested(9, &[number(1, size)]),
            frame::encode(13, self.shown),
        ]);
        attributes
    }
}

/// `NFTA_LIST_ELEM` with `NFTA_SET_ELEM_KEY` and, in a map, `NFTA_SET_ELEM_DATA`.
fn element(key: &[u8], value: Option<Ipv4Addr>) -> Vec<u8> {
    let data = |kind: u16, value: &[u8]| nested(kind, &[frame::encode(1, value)]);
    let parts = [Some(data(1, key)), value.map(|address| data(2, &address.octets()))];
    nested(1, &parts.into_iter().flatten().collect::<Vec<_>>())
}

/// `meta l4proto @set dnat to …`, as the kernel's expressions; `next` puts the address into the register.
fn rule(protocols: &Set<'_>, next: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut rule = vec![
        expression("meta", &[number(2, META_PROTOCOL), number(1, REGISTER)]),
        lookup(protocols, &[number(2, REGISTER)]),
    ];
    rule.extend(next);
    // `NFT_NAT_DNAT` of `NFPROTO_IPV4` to the address in the register.
    rule.push(expression("nat", &[number(1, 1), number(2, AF_INET.into()), number(3, REGISTER)]));
    rule
}

fn only_one(to: Ipv4Addr) -> Vec<Vec<u8>> {
    let value = nested(2, &[frame::encode(1, &to.octets())]);
    vec![expression("immediate", &[number(1, REGISTER), value])]
}

/// `numgen inc mod … map @map`: counts up, from nought.
fn in_turn(map: &Set<'_>) -> Vec<Vec<u8>> {
    let size = u32::try_from(map.size).unwrap_or(u32::MAX);
    vec![
        expression("numgen", &[number(1, REGISTER), number(2, size), number(3, 0), number(4, 0)]),
        lookup(map, &[number(2, REGISTER), number(3, REGISTER)]),
    ]
}

fn lookup(set: &Set<'_>, registers: &[Vec<u8>]) -> Vec<u8> {
    expression("lookup", &[registers, &[text(1, set.name), number(4, set.id)]].concat())
}

fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, attributes)])
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    frame::encode(kind | NESTED, &parts.concat())
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    frame::encode(kind, &[text.as_bytes(), &[0]].concat())
}

fn number(kind: u16, number: u32) -> Vec<u8> {
    frame::encode(kind, &number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Nft;
    use crate::apply::nft;
    use crate::plan::Ruleset;
    use skep_sys::netns::NetNs;

    fn rules(chains: &[(&str, Vec<Ipv4Addr>)]) -> Ruleset {
        let mut rules = Ruleset::default();
        for (name, to) in chains {
            let chain = rules.chain(name);
            if !to.is_empty() {
                chain.rule(Arc::new(Turns::new(to.clone())));
            }
        }
        rules.chain("other").rule("counter accept");
        rules
    }

    fn turns(to: &[Ipv4Addr]) -> Option<Turns> {
        (!to.is_empty()).then(|| Turns::new(to.to_vec()))
    }

    fn addresses(third: u8, count: u16) -> Vec<Ipv4Addr> {
        (0..count).map(|n| Ipv4Addr::from([10, third, (n >> 8) as u8, n as u8])).collect()
    }

    #[test]
    fn what_is_sent_is_what_nft_makes_of_the_text() {
        let traffic = Arc::<Traffic>::default();
        let nft = Nft { program: "nft".into(), traffic: Arc::clone(&traffic) };
        let host = NetNs::anonymous().expect("a namespace");
        let work = || {
            let few = addresses(0, 16);
            let all = ["a", "b", "c", "d"];
            let before = rules(&all.map(|name| (name, few.clone())));
            nft.transact("test", &before.replace()).expect("rules");
            let generation = nft::generation(&traffic).expect("generation");
            let programs = traffic.counts().programs;
            // More than one message holds, and two, one, none.
            let counts = [2560, 2, 1, 0];
            let wanted: Vec<_> =
                all.into_iter().zip(counts).map(|(name, n)| (name, addresses(1, n))).collect();
            let made: Vec<_> = wanted.iter().map(|(name, to)| (*name, turns(to))).collect();
            let changes: Vec<_> = made.iter().map(|(name, to)| (*name, to.as_ref())).collect();
            assert!(change(&traffic, generation, &changes).expect("change"));
            assert_eq!(nft::generation(&traffic).expect("generation"), generation + 1);
            assert_eq!(traffic.counts().programs, programs);
            let ours = nft.list("test", TABLE).expect("list");
            let (ours_json, _) = nft.listings("test").expect("listings");

            // Somebody wrote meanwhile.
            let some = turns(&few);
            let some = some.as_ref();
            assert!(!change(&traffic, generation, &[("a", some)]).expect("refused"));
            // No such chain: nothing of it is done.
            for wrong in [some, None].map(|to| [("a", some), ("nosuch", to)]) {
                change(&traffic, generation + 1, &wrong).expect_err("no such chain");
                assert_eq!(nft.list("test", TABLE).expect("list"), ours);
            }

            nft.transact("test", &rules(&wanted).replace()).expect("rules");
            assert_eq!(nft.list("test", TABLE).expect("list"), ours);
            let (theirs_json, _) = nft.listings("test").expect("listings");
            let bare = |json: &str| {
                let mut value: serde_json::Value = serde_json::from_str(json).expect("JSON");
                unnumbered(&mut value);
                value
            };
            assert_eq!(bare(&ours_json), bare(&theirs_json));

            // And back from nowhere.
            let back: Vec<_> = all.iter().map(|name| (*name, some)).collect();
            let generation = nft::generation(&traffic).expect("generation");
            assert!(change(&traffic, generation, &back).expect("change"));
            let ours = nft.list("test", TABLE).expect("list");
            nft.transact("test", &before.replace()).expect("rules");
            assert_eq!(nft.list("test", TABLE).expect("list"), ours);
        };
        host.run(work).expect("inside");
    }

    #[test]
    fn as_many_chains_as_there_are_services_change_at_once() {
        let traffic = Arc::<Traffic>::default();
        let nft = Nft { program: "nft".into(), traffic: Arc::clone(&traffic) };
        let names: Vec<String> = (0..600).map(|n| format!("c{n}")).collect();
        let to = addresses(0, 2);
        let work = || {
            let before: Vec<_> = names.iter().map(|name| (name.as_str(), to.clone())).collect();
            nft.transact("test", &rules(&before).replace()).expect("rules");
            let generation = nft::generation(&traffic).expect("generation");
            let nowhere: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
            assert!(change(&traffic, generation, &nowhere).expect("change"));
            assert!(!nft.list("test", TABLE).expect("list").contains("dnat"));
        };
        NetNs::anonymous().expect("a namespace").run(work).expect("inside");
    }

    /// Without the numbers that the kernel gives.
    fn unnumbered(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Array(all) => all.iter_mut().for_each(unnumbered),
            serde_json::Value::Object(all) => {
                all.remove("handle");
                all.values_mut().for_each(unnumbered);
            }
            _ => {}
        }
    }
}
