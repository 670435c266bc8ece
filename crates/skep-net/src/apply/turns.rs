//! Where chains of turns lead, changed by a netlink transaction of our own. `nft` would be a process for each
//! namespace, and who stands behind a service changes in all containers of a network at once.
//!
//! What is sent is what `nft` sends for the rule's text, so that it lists it the same. The message and attribute
//! numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use super::frame::{self, NESTED};
use super::nfnetlink::{AF_INET, Nfnetlink};
use super::nft::NFTABLES;
use super::traffic::Traffic;
use crate::plan::{PLACES, TABLE, Turns};
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
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
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
/// What `nft` keeps with a set to know how to show its keys: their byte order is the host's, resp. the expressions of
/// `typeof`. The kernel does not look at it.
const PROTOCOLS_SHOWN: &[u8] =
    b"\x00\x04\x01\x00\x00\x00\x03\x0e\x00\x04\x09\x00\x00\x00\x01\x06\x00\x04\x10\x00\x00\x00";
const PLACES_SHOWN: &[u8] = b"\x00\x04\x01\x00\x00\x00\x01\x04\x02\x00\x00\x00\
    \x03\x1a\x00\x04\x17\x00\x00\x00\x01\x12\x00\x04\x00\x00\x00\x00\x01\x04\x00\x00\x01\x00\x02\x04\x00\x00\x00\x00\
    \x04\x14\x00\x04\x07\x00\x00\x00\x01\x0c\x00\x04\x0c\x00\x00\x00\x01\x04\x0c\x00\x00\x00\
    \x06\x04\x00\x00\x00\x00";
/// `NFT_META_L4PROTO`, and the protocols that have ports.
const META_PROTOCOL: u32 = 16;
const PROTOCOLS: [u8; 3] = [6, 17, 132];
/// Elements in one message: their list's length is a 16-bit number, each takes 28 bytes.
const ELEMENTS: usize = 1024;

/// A chain that is to lead elsewhere.
#[derive(Debug)]
pub struct Led<'a> {
    /// Where it leads; `None` when that is not known, and all is made anew.
    pub from: Option<&'a Arc<Turns>>,
    /// Where to.
    pub to: &'a Arc<Turns>,
}

impl Led<'_> {
    /// Where it leads, if its map need not be made anew.
    fn kept(&self) -> Option<&Turns> {
        self.from.filter(|from| from.capacity() == self.to.capacity()).map(|from| &**from)
    }

    /// Places to be emptied, and those to be filled.
    fn places(&self) -> (Vec<u32>, Vec<(u32, Ipv4Addr)>) {
        let had = self.kept().map_or(&[][..], Turns::map);
        let to = self.to.map();
        let (mut emptied, mut filled) = (Vec::new(), Vec::new());
        for (place, at) in (0u32..).zip(0..had.len().max(to.len())) {
            let (had, to) = (had.get(at), to.get(at));
            if had == to {
                continue;
            }
            emptied.extend(had.map(|_| place));
            filled.extend(to.map(|to| (place, *to)));
        }
        (emptied, filled)
    }
}

/// Has chains of our table in the calling thread's namespace lead elsewhere. All or none, and only while nftables'
/// generation there is `generation`: `false` if it is not.
pub fn change(traffic: &Arc<Traffic>, generation: u32, all: &[Led<'_>]) -> io::Result<bool> {
    let mut netlink = Nfnetlink::open(traffic)?;
    match netlink.transact(|sequence| batch(sequence, generation, all)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::ERESTART) => Ok(false),
        Err(error) => Err(error),
    }
}

fn batch(sequence: u32, generation: u32, all: &[Led<'_>]) -> Vec<u8> {
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
    let mut messages = Vec::new();
    for led in all {
        lead(led, &mut ids, &mut messages);
    }
    let last = messages.len().saturating_sub(1);
    for (place, (kind, flags, attributes)) in messages.into_iter().enumerate() {
        // What is refused is told unasked; of what is done one word is enough, and many would not fit the socket.
        let ack = if place == last { ACK } else { 0 };
        let all = [vec![text(1, TABLE)], attributes].concat();
        put((NFTABLES << 8) | kind, flags | ack, AF_INET, 0, &all);
    }
    put(BATCH_END, 0, 0, NFTABLES, &[]);
    bytes
}

/// `NFT_MSG_*`, flags, and attributes but the table's name.
type Message = (u16, u16, Vec<Vec<u8>>);

fn lead(led: &Led<'_>, ids: &mut impl Iterator<Item = u32>, messages: &mut Vec<Message>) {
    let (name, to) = (led.to.name(), led.to.turns());
    let kept = led.kept();
    let rule_stays = kept.is_some_and(|kept| kept.turns().len() == to.len());
    if !rule_stays {
        messages.push((DELETE_RULE, 0, vec![text(2, name)]));
    }
    let mut made = Vec::new();
    if kept.is_none() {
        let map = Set {
            name,
            id: ids.next().unwrap_or_default(),
            flags: MAP,
            key: (TYPE_INTEGER, 4),
            value: Some((TYPE_ADDRESS, 4)),
            size: led.to.capacity(),
            shown: PLACES_SHOWN,
        };
        messages.push((DELETE_SET, 0, vec![text(2, name)]));
        messages.push((NEW_SET, CREATE, map.declaration()));
        made.push(number(4, map.id));
    }
    let (emptied, filled) = led.places();
    let emptied = emptied.iter().map(|place| element(&place.to_ne_bytes(), None));
    for list in lists(emptied) {
        messages.push((DELETE_ELEMENTS, 0, vec![text(2, name), list]));
    }
    let filled = filled.iter().map(|(place, to)| element(&place.to_ne_bytes(), Some(*to)));
    for list in lists(filled) {
        let all = [&[text(2, name)], &made[..], &[list]].concat();
        messages.push((NEW_ELEMENTS, CREATE, all));
    }
    if rule_stays || to.is_empty() {
        return;
    }
    let protocols = Set {
        name: "__set%d",
        id: ids.next().unwrap_or_default(),
        flags: ANONYMOUS | CONSTANT,
        key: (TYPE_PROTOCOL, 1),
        value: None,
        size: PROTOCOLS.len(),
        shown: PROTOCOLS_SHOWN,
    };
    messages.push((NEW_SET, CREATE, protocols.declaration()));
    for list in lists(PROTOCOLS.iter().map(|protocol| element(&[*protocol], None))) {
        let all = vec![text(2, protocols.name), number(4, protocols.id), list];
        messages.push((NEW_ELEMENTS, CREATE, all));
    }
    let count = u32::try_from(to.len()).unwrap_or(PLACES);
    let rule = nested(4, &rule(&protocols, name, &made, count));
    messages.push((NEW_RULE, CREATE | APPEND, vec![text(2, name), rule]));
}

/// Lists of elements, as many in each as a message takes.
fn lists(elements: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let elements: Vec<Vec<u8>> = elements.collect();
    elements.chunks(ELEMENTS).map(|list| nested(3, list)).collect()
}

struct Set<'a> {
    name: &'a str,
    /// Its number in the transaction.
    id: u32,
    flags: u32,
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
        let size = u32::try_from(self.size).unwrap_or(u32::MAX);
        let mut attributes = vec![
            text(2, self.name),
            number(3, self.flags),
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

/// `meta l4proto @protocols dnat to numgen inc mod count map @map`, as the kernel's expressions. `made`: the map's number
/// in the transaction that makes it.
fn rule(protocols: &Set<'_>, map: &str, made: &[Vec<u8>], count: u32) -> Vec<Vec<u8>> {
    let lookup = |attributes: &[&[Vec<u8>]]| expression("lookup", &attributes.concat());
    let known = [text(1, protocols.name), number(4, protocols.id)];
    vec![
        expression("meta", &[number(2, META_PROTOCOL), number(1, REGISTER)]),
        lookup(&[&[number(2, REGISTER)], &known]),
        // Counts up, from nought.
        expression("numgen", &[number(1, REGISTER), number(2, count), number(3, 0), number(4, 0)]),
        lookup(&[&[number(2, REGISTER), number(3, REGISTER), text(1, map)], made]),
        // `NFT_NAT_DNAT` of `NFPROTO_IPV4` to the address in the register.
        expression("nat", &[number(1, 1), number(2, AF_INET.into()), number(3, REGISTER)]),
    ]
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
    use std::collections::BTreeSet;

    fn rules(all: &[Arc<Turns>]) -> Ruleset {
        let mut rules = Ruleset::default();
        all.iter().for_each(|turns| rules.lead(turns));
        rules.chain("other").rule("counter accept");
        rules
    }

    fn addresses(third: u8, count: u16) -> BTreeSet<Ipv4Addr> {
        (0..count).map(|n| Ipv4Addr::from([10, third, (n >> 8) as u8, n as u8])).collect()
    }

    fn nft() -> Nft {
        Nft { program: "nft".into(), traffic: Arc::default() }
    }

    fn named(name: &str, third: u8, count: u16, before: Option<&Arc<Turns>>) -> Arc<Turns> {
        Turns::new(name, &addresses(third, count), before)
    }

    #[test]
    fn what_is_sent_is_what_nft_makes_of_the_text() {
        let nft = nft();
        let traffic = &nft.traffic;
        let work = || {
            let names = ["a", "b", "c", "d", "e"];
            let before = names.map(|name| named(name, 0, 100, None));
            nft.transact("test", &rules(&before).replace()).expect("rules");
            let generation = nft::generation(traffic).expect("generation");
            let programs = traffic.counts().programs;
            // More than one message holds, as many others, so few that the map is made smaller, less, none.
            let counts = [(1, 2560), (1, 100), (1, 2), (0, 60), (0, 0)];
            let wanted: Vec<Arc<Turns>> = counts
                .iter()
                .zip(&before)
                .map(|((third, n), before)| named(before.name(), *third, *n, Some(before)))
                .collect();
            let all = before.iter().zip(&wanted);
            let all: Vec<_> = all.map(|(from, to)| Led { from: Some(from), to }).collect();
            assert!(change(traffic, generation, &all).expect("change"));
            assert_eq!(nft::generation(traffic).expect("generation"), generation + 1);
            assert_eq!(traffic.counts().programs, programs);
            let ours = nft.list("test", TABLE).expect("list");
            let taken: Vec<usize> = wanted.iter().map(|wanted| wanted.map().len()).collect();
            assert_eq!(taken, [2560, 100, 2, 100, 0]);

            // Somebody wrote meanwhile.
            let back = || Led { from: wanted.first(), to: &before[0] };
            assert!(!change(traffic, generation, &[back()]).expect("refused"));
            // No such chain: nothing of it is done.
            for count in [2, 0] {
                let nosuch = named("nosuch", 0, count, None);
                let wrong = [back(), Led { from: None, to: &nosuch }];
                change(traffic, generation + 1, &wrong).expect_err("no such chain");
                assert_eq!(nft.list("test", TABLE).expect("list"), ours);
            }

            // All of it anew, of which nothing is known.
            let anew: Vec<_> = wanted.iter().map(|to| Led { from: None, to }).collect();
            assert!(change(traffic, generation + 1, &anew).expect("change"));
            let ours = nft.list("test", TABLE).expect("list");
            let (ours_json, _) = nft.listings("test").expect("listings");
            nft.transact("test", &rules(&wanted).replace()).expect("rules");
            assert_eq!(nft.list("test", TABLE).expect("list"), ours);
            let (theirs_json, _) = nft.listings("test").expect("listings");
            let bare = |json: &str| {
                let mut value: serde_json::Value = serde_json::from_str(json).expect("JSON");
                unnumbered(&mut value);
                value
            };
            assert_eq!(bare(&ours_json), bare(&theirs_json));
        };
        NetNs::anonymous().expect("a namespace").run(work).expect("inside");
    }

    /// Where the first of our tables' chains leads, by place.
    fn places(nft: &Nft) -> Vec<Ipv4Addr> {
        let (json, _) = nft.listings("test").expect("listings");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let objects = value["nftables"].as_array().expect("a list");
        let count = objects.iter().find_map(|object| {
            let rule = object.get("rule").filter(|rule| rule["chain"] == "a")?;
            rule["expr"][1]["dnat"]["addr"]["map"]["key"]["numgen"]["mod"].as_u64()
        });
        let map = objects.iter().find_map(|object| object.get("map")).expect("a map");
        let pairs = map["elem"].as_array().cloned().unwrap_or_default();
        let mut all: Vec<(u64, Ipv4Addr)> = pairs
            .iter()
            .map(|pair| {
                let address = pair[1].as_str().expect("an address").parse().expect("an address");
                (pair[0].as_u64().expect("a place"), address)
            })
            .collect();
        all.sort_unstable();
        all.truncate(usize::try_from(count.unwrap_or_default()).expect("few"));
        all.into_iter().map(|(_, address)| address).collect()
    }

    #[test]
    fn a_change_is_as_long_as_what_changed() {
        let nft = nft();
        let length = |led: &Led<'_>| batch(1, 1, std::slice::from_ref(led)).len();
        let work = || {
            let mut last = named("a", 0, 600, None);
            nft.transact("test", &rules(&[Arc::clone(&last)]).replace()).expect("rules");
            let whole = length(&Led { from: None, to: &last });
            let numbers = |all: &[u16]| -> BTreeSet<Ipv4Addr> {
                all.iter().map(|n| Ipv4Addr::from([10, 0, (n >> 8) as u8, *n as u8])).collect()
            };
            let mut now: Vec<u16> = (0..600).collect();
            let more = |now: &mut Vec<u16>| now.extend(600..603);
            let less = |now: &mut Vec<u16>| now.retain(|n| n % 100 != 7);
            let other = |now: &mut Vec<u16>| now[3] = 700;
            let again = |now: &mut Vec<u16>| *now = (0..600).collect();
            type Step<'a> = (&'a str, &'a dyn Fn(&mut Vec<u16>));
            let steps: [Step<'_>; 6] = [
                ("more", &more),
                ("less", &less),
                ("another", &other),
                ("again", &again),
                ("less again", &less),
                ("more again", &more),
            ];
            for (what, step) in steps {
                step(&mut now);
                let before = last;
                last = Turns::new("a", &numbers(&now), Some(&before));
                let led = Led { from: Some(&before), to: &last };
                assert!(length(&led) < whole / 15, "{what}: {} of {whole} bytes", length(&led));
                let generation = nft::generation(&nft.traffic).expect("generation");
                assert!(change(&nft.traffic, generation, &[led]).expect("change"), "{what}");
                assert_eq!(places(&nft), last.turns(), "{what}");
            }
        };
        NetNs::anonymous().expect("a namespace").run(work).expect("inside");
    }

    #[test]
    fn as_many_chains_as_there_are_services_change_at_once() {
        let nft = nft();
        let before: Vec<_> = (0..600).map(|n| named(&format!("c{n}"), 0, 2, None)).collect();
        let work = || {
            nft.transact("test", &rules(&before).replace()).expect("rules");
            let generation = nft::generation(&nft.traffic).expect("generation");
            let nowhere: Vec<_> =
                before.iter().map(|before| named(before.name(), 0, 0, Some(before))).collect();
            let all = before.iter().zip(&nowhere);
            let all: Vec<_> = all.map(|(from, to)| Led { from: Some(from), to }).collect();
            assert!(change(&nft.traffic, generation, &all).expect("change"));
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
