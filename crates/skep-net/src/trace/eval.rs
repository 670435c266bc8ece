//! What nftables rules make of a packet. Three-valued: what this does not understand,
//! or what depends on something unknown, is neither true nor false, and is said.

use super::live::Live;
use super::packet::{Packet, Place};
use super::rules::{Chain, Rule, Table};
use serde_json::Value;
use skep_types::Protocol;
use std::net::Ipv4Addr;

/// Chains that call each other deeper than the kernel allows.
const DEPTH: usize = 16;

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    Yes,
    No,
    Maybe,
}

/// A value that a packet or a rule has.
#[derive(Debug, Clone, PartialEq)]
enum Val {
    Number(u64),
    Text(String),
    Address(Ipv4Addr),
    List(Vec<Val>),
    /// One of several flags, such as states of a connection.
    Flags(Vec<&'static str>),
    /// The packet has no such thing, for it is of another protocol: no condition on it holds.
    Absent,
    /// The address of somebody outside: none of loopback, none behind our bridges.
    Outsider,
    Unknown,
}

/// What a chain says in the end.
#[derive(Debug, Clone)]
pub enum Ruling<'a> {
    /// Nothing: the next chain judges.
    None,
    Accept,
    Drop(Applied<'a>),
    Reject(Applied<'a>),
    /// The destination becomes one of these, in this manner.
    Translate {
        to: Vec<(Ipv4Addr, Option<u16>)>,
        manner: Manner,
        by: Applied<'a>,
    },
    /// The source becomes the outgoing interface's address, or this one.
    Disguise {
        to: Option<Ipv4Addr>,
        by: Applied<'a>,
    },
}

/// How one of several destinations is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Fixed,
    InTurn,
    ByChance,
}

/// A rule with its place.
#[derive(Debug, Clone, Copy)]
pub struct Applied<'a> {
    pub chain: &'a Chain,
    pub rule: &'a Rule,
}

/// What happened on the way to a ruling.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A mark on the packet.
    Mark(Applied<'a>, u32),
    /// A mark on the connection.
    ConnectionMark(Applied<'a>, u32),
    /// A rule that cannot be judged from here. It was taken as not applying.
    Unclear(Applied<'a>),
}

enum Flow<'a> {
    Next,
    Return,
    End(Ruling<'a>),
}

/// Evaluates rules for one packet in one place.
pub struct Evaluation<'a, 'p> {
    pub live: &'a Live,
    pub packet: &'p mut Packet,
    pub place: Place,
    pub events: Vec<Event<'a>>,
}

impl<'a> Evaluation<'a, '_> {
    /// Runs a base chain.
    pub fn chain(&mut self, chain: &'a Chain) -> Ruling<'a> {
        match self.run(chain, 0) {
            Flow::End(ruling) => ruling,
            Flow::Next | Flow::Return => Ruling::None,
        }
    }

    fn run(&mut self, chain: &'a Chain, depth: usize) -> Flow<'a> {
        if depth > DEPTH {
            return Flow::Next;
        }
        for rule in &chain.rules {
            match self.rule(Applied { chain, rule }, depth) {
                Flow::Next => {}
                Flow::Return => return Flow::Next,
                end @ Flow::End(_) => return end,
            }
        }
        Flow::Next
    }

    fn rule(&mut self, at: Applied<'a>, depth: usize) -> Flow<'a> {
        let mut sure = true;
        for statement in &at.rule.statements {
            let Some((kind, body)) = statement.as_object().and_then(|o| o.iter().next()) else {
                // Statements without arguments may be plain words.
                if let Some(word) = statement.as_str() {
                    return self.verdict(word, &Value::Null, at, depth, sure);
                }
                continue;
            };
            match kind.as_str() {
                "match" => match self.matches(body, &at.chain.table) {
                    Truth::Yes => {}
                    Truth::No => return Flow::Next,
                    Truth::Maybe => sure = false,
                },
                "counter" | "log" | "comment" => {}
                "limit" | "quota" | "xt" | "flow" | "meter" => sure = false,
                "set" | "map" => {}
                "mangle" => {
                    if sure {
                        self.mangle(body, at);
                    }
                }
                "vmap" => {
                    let Some(found) = self.look_up(body, &at.chain.table) else {
                        continue;
                    };
                    let Some((word, target)) = found.as_object().and_then(|o| o.iter().next())
                    else {
                        continue;
                    };
                    return self.verdict(word, target, at, depth, sure);
                }
                word => return self.verdict(word, body, at, depth, sure),
            }
        }
        Flow::Next
    }

    fn verdict(
        &mut self,
        word: &str,
        body: &Value,
        at: Applied<'a>,
        depth: usize,
        sure: bool,
    ) -> Flow<'a> {
        if !sure {
            if !matches!(word, "return" | "continue") {
                self.events.push(Event::Unclear(at));
            }
            return Flow::Next;
        }
        match word {
            "accept" => Flow::End(Ruling::Accept),
            "drop" => Flow::End(Ruling::Drop(at)),
            "reject" => Flow::End(Ruling::Reject(at)),
            "return" => Flow::Return,
            "jump" | "goto" => {
                let name = body.get("target").and_then(Value::as_str).unwrap_or_default();
                let Some(chain) = self.live.tables.chain(&at.chain.table, name) else {
                    return Flow::Next;
                };
                match self.run(chain, depth + 1) {
                    Flow::Next | Flow::Return if word == "goto" => Flow::Return,
                    Flow::Next | Flow::Return => Flow::Next,
                    end @ Flow::End(_) => end,
                }
            }
            "dnat" | "redirect" => self.translate(word, body, at),
            "masquerade" => Flow::End(Ruling::Disguise { to: None, by: at }),
            "snat" => match self.value(body.get("addr").unwrap_or(&Value::Null)) {
                Val::Address(to) => Flow::End(Ruling::Disguise { to: Some(to), by: at }),
                _ => {
                    self.events.push(Event::Unclear(at));
                    Flow::Next
                }
            },
            "notrack" => {
                self.packet.connection.untracked = true;
                Flow::Next
            }
            "continue" | "tproxy" | "fwd" | "dup" | "queue" => {
                if word != "continue" {
                    self.events.push(Event::Unclear(at));
                }
                Flow::Next
            }
            _ => Flow::Next,
        }
    }

    fn translate(&mut self, word: &str, body: &Value, at: Applied<'a>) -> Flow<'a> {
        let port = body.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
        if word == "redirect" {
            let address = match &self.place.incoming {
                Some(link) => self.live.address_of(link),
                None => Some(Ipv4Addr::LOCALHOST),
            };
            let Some(address) = address else { return Flow::Next };
            let to = vec![(address, port)];
            return Flow::End(Ruling::Translate { to, manner: Manner::Fixed, by: at });
        }
        let Some(address) = body.get("addr") else {
            return Flow::End(Ruling::Translate {
                to: vec![(self.packet.destination, port)],
                manner: Manner::Fixed,
                by: at,
            });
        };
        if let Some(map) = address.get("map")
            && let Some(generator) = map.get("key").and_then(|k| k.get("numgen"))
        {
            let manner = match generator.get("mode").and_then(Value::as_str) {
                Some("inc") => Manner::InTurn,
                _ => Manner::ByChance,
            };
            let data = self.data(map, &at.chain.table);
            let count = generator.get("mod").and_then(Value::as_u64).unwrap_or(u64::MAX);
            // Of places that no turn comes to something may be left.
            let turns = pairs(data).into_iter().filter(|(place, _)| match literal(place) {
                Val::Number(place) => place < count,
                _ => true,
            });
            let to: Vec<_> =
                turns.filter_map(|(_, value)| destination(&literal(value), port)).collect();
            let manner = if to.len() == 1 { Manner::Fixed } else { manner };
            return Flow::End(Ruling::Translate { to, manner, by: at });
        }
        let found = match address.get("map") {
            Some(map) => match self.look_up(map, &at.chain.table) {
                Some(value) => literal(&value),
                // Not in the map: the statement does nothing.
                None => return Flow::Next,
            },
            None => self.value(address),
        };
        match destination(&found, port) {
            Some(to) => {
                Flow::End(Ruling::Translate { to: vec![to], manner: Manner::Fixed, by: at })
            }
            None => {
                self.events.push(Event::Unclear(at));
                Flow::Next
            }
        }
    }

    fn mangle(&mut self, body: &Value, at: Applied<'a>) {
        let Some(key) = body.get("key") else { return };
        let value = match body.get("value").and_then(|v| v.get("map")) {
            Some(map) => self.look_up(map, &at.chain.table).map(|v| literal(&v)),
            None => body.get("value").map(|v| self.value(v)),
        };
        let name = |kind: &str| key.get(kind).and_then(|k| k.get("key")).and_then(Value::as_str);
        let Some(Val::Number(number)) = value else {
            return;
        };
        let Ok(number) = u32::try_from(number) else { return };
        if name("ct") == Some("mark") {
            self.packet.connection.mark = number;
            self.events.push(Event::ConnectionMark(at, number));
        } else if name("meta") == Some("mark") {
            self.packet.mark = number;
            self.events.push(Event::Mark(at, number));
        }
    }

    fn matches(&self, body: &Value, table: &Table) -> Truth {
        let (Some(left), Some(right)) = (body.get("left"), body.get("right")) else {
            return Truth::Maybe;
        };
        let left = self.value(left);
        if left == Val::Absent {
            return Truth::No;
        }
        match body.get("op").and_then(Value::as_str).unwrap_or("==") {
            "==" | "in" => self.equal(&left, right, table),
            "!=" => match self.equal(&left, right, table) {
                Truth::Yes => Truth::No,
                Truth::No => Truth::Yes,
                Truth::Maybe => Truth::Maybe,
            },
            op => {
                let (Val::Number(a), Some(b)) = (&left, right.as_u64()) else {
                    return Truth::Maybe;
                };
                match op {
                    "<" => truth(*a < b),
                    ">" => truth(*a > b),
                    "<=" => truth(*a <= b),
                    ">=" => truth(*a >= b),
                    _ => Truth::Maybe,
                }
            }
        }
    }

    /// Whether a value is the one, or one of those, that a rule names.
    fn equal(&self, value: &Val, right: &Value, table: &Table) -> Truth {
        match value {
            Val::Unknown => return Truth::Maybe,
            Val::Absent => return Truth::No,
            _ => {}
        }
        match right {
            Value::Array(list) => any(list.iter().map(|one| self.equal(value, one, table))),
            Value::String(name) if name.starts_with('@') => {
                let key = (table.clone(), name.trim_start_matches('@').to_owned());
                match self.live.tables.sets.get(&key).and_then(Value::as_array) {
                    Some(list) => any(list.iter().map(|one| self.equal(value, one, table))),
                    None => Truth::Maybe,
                }
            }
            Value::String(text) => match value {
                Val::Text(own) => truth(match text.strip_suffix('*') {
                    Some(start) => own.starts_with(start),
                    None => own == text,
                }),
                Val::Address(own) => {
                    text.parse::<Ipv4Addr>().map_or(Truth::Maybe, |a| truth(a == *own))
                }
                Val::Flags(flags) => truth(flags.contains(&text.as_str())),
                _ => Truth::Maybe,
            },
            Value::Number(number) => match (value, number.as_u64()) {
                (Val::Number(own), Some(number)) => truth(*own == number),
                _ => Truth::Maybe,
            },
            Value::Object(object) => {
                let Some((kind, body)) = object.iter().next() else { return Truth::Maybe };
                match kind.as_str() {
                    "set" => self.equal(value, body, table),
                    "elem" => match body.get("val") {
                        Some(inner) => self.equal(value, inner, table),
                        None => Truth::Maybe,
                    },
                    "prefix" if *value == Val::Outsider => self.outsider(body),
                    "prefix" => prefix(value, body),
                    "range" => range(value, body),
                    "concat" => match (value, body.as_array()) {
                        (Val::List(own), Some(list)) if own.len() == list.len() => {
                            all(own.iter().zip(list).map(|(a, b)| self.equal(a, b, table)))
                        }
                        _ => Truth::Maybe,
                    },
                    _ => Truth::Maybe,
                }
            }
            _ => Truth::Maybe,
        }
    }

    /// Whether somebody outside may have an address of this prefix.
    fn outsider(&self, prefix: &Value) -> Truth {
        let address = prefix.get("addr").and_then(Value::as_str).and_then(|a| a.parse().ok());
        let Some(address) = address else { return Truth::Maybe };
        let behind_a_bridge = self.live.addresses.iter().any(|(link, own)| {
            own.contains(address) && self.live.link_at(*link).is_some_and(|l| l.bridge)
        });
        if address.is_loopback() || behind_a_bridge { Truth::No } else { Truth::Maybe }
    }

    /// What a map has for the packet; `None` when it has nothing, or when that cannot
    /// be told.
    fn look_up(&self, map: &Value, table: &Table) -> Option<Value> {
        let key = self.value(map.get("key")?);
        pairs(self.data(map, table))
            .into_iter()
            .find(|(one, _)| self.equal(&key, one, table) == Truth::Yes)
            .map(|(_, value)| value.clone())
    }

    /// What a map holds, written in a rule or named.
    fn data<'m>(&'m self, map: &'m Value, table: &Table) -> Option<&'m Value> {
        let data = map.get("data")?;
        match data.as_str() {
            Some(name) => {
                let name = name.trim_start_matches('@').to_owned();
                self.live.tables.sets.get(&(table.clone(), name))
            }
            None => Some(data),
        }
    }

    /// What an expression is for this packet.
    fn value(&self, expression: &Value) -> Val {
        let Some((kind, body)) = expression.as_object().and_then(|o| o.iter().next()) else {
            return literal(expression);
        };
        let key = body.get("key").and_then(Value::as_str).unwrap_or_default();
        match kind.as_str() {
            "meta" => self.meta(key),
            "ct" if body.get("dir").and_then(Value::as_str) == Some("original") => {
                self.original(key)
            }
            "ct" => self.tracked(key),
            "payload" => self.payload(body),
            "fib" => self.fib(body),
            "socket" => self.socket(key),
            "concat" => match body.as_array() {
                Some(list) => Val::List(list.iter().map(|one| self.value(one)).collect()),
                None => Val::Unknown,
            },
            "&" | "|" | "^" => match body.as_array().map(Vec::as_slice) {
                Some([a, b]) => match (self.value(a), self.value(b)) {
                    (Val::Number(a), Val::Number(b)) => Val::Number(match kind.as_str() {
                        "&" => a & b,
                        "|" => a | b,
                        _ => a ^ b,
                    }),
                    _ => Val::Unknown,
                },
                _ => Val::Unknown,
            },
            _ => Val::Unknown,
        }
    }

    fn meta(&self, key: &str) -> Val {
        let text = |name: &Option<String>| Val::Text(name.clone().unwrap_or_default());
        match key {
            "iifname" | "iif" => text(&self.place.incoming),
            "oifname" | "oif" => text(&self.place.outgoing),
            "l4proto" => Val::Text(self.packet.protocol.as_str().to_owned()),
            "nfproto" => Val::Text("ipv4".to_owned()),
            "protocol" => Val::Text("ip".to_owned()),
            "mark" => Val::Number(self.packet.mark.into()),
            "pkttype" => Val::Text("host".to_owned()),
            _ => Val::Unknown,
        }
    }

    /// The socket that would take the packet. None is told of what the kernel does not look up either.
    fn socket(&self, key: &str) -> Val {
        let Packet { protocol, port, destination, .. } = *self.packet;
        let mut sockets = self.live.listening(protocol, port).filter(|s| s.takes(destination));
        match (sockets.next(), key) {
            (None, _) => Val::Absent,
            (Some(socket), "wildcard") => Val::Number(socket.address.is_unspecified().into()),
            _ => Val::Unknown,
        }
    }

    /// What the connection's first packet was for.
    fn original(&self, key: &str) -> Val {
        match (key, self.packet.connection.original) {
            ("proto-dst", Some((_, port))) => Val::Number(port.into()),
            ("daddr" | "ip daddr", Some((address, _))) => Val::Address(address),
            _ => Val::Unknown,
        }
    }

    fn tracked(&self, key: &str) -> Val {
        let connection = self.packet.connection;
        match key {
            "mark" => Val::Number(connection.mark.into()),
            "state" if connection.untracked => Val::Flags(vec!["untracked"]),
            "state" if connection.established => Val::Flags(vec!["established"]),
            "state" => Val::Flags(vec!["new"]),
            "status" => {
                let mut flags = Vec::new();
                if connection.dnat {
                    flags.push("dnat");
                }
                if connection.snat {
                    flags.push("snat");
                }
                Val::Flags(flags)
            }
            "direction" => {
                Val::Text(if connection.established { "reply" } else { "original" }.to_owned())
            }
            _ => Val::Unknown,
        }
    }

    fn payload(&self, body: &Value) -> Val {
        let part = |key| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let packet = &*self.packet;
        match (part("protocol"), part("field")) {
            ("ip", "daddr") => Val::Address(packet.destination),
            ("ip", "saddr") => packet.source.map_or(Val::Outsider, Val::Address),
            ("ip", "protocol") => Val::Text(packet.protocol.as_str().to_owned()),
            ("ether", "saddr") => packet.mac.map_or(Val::Unknown, |mac| Val::Text(mac.to_string())),
            (protocol, "dport") => {
                // A rule about TCP ports is one about TCP.
                if protocol == "th" || protocol == packet.protocol.as_str() {
                    Val::Number(packet.port.into())
                } else {
                    Val::Absent
                }
            }
            ("tcp", _) if packet.protocol != Protocol::Tcp => Val::Absent,
            _ => Val::Unknown,
        }
    }

    fn fib(&self, body: &Value) -> Val {
        let flags = body.get("flags");
        let has = |flag: &str| match flags {
            Some(Value::Array(list)) => list.iter().any(|f| f.as_str() == Some(flag)),
            Some(Value::String(one)) => one == flag,
            _ => false,
        };
        if body.get("result").and_then(Value::as_str) != Some("type") {
            return Val::Unknown;
        }
        let local = if has("daddr") { self.place.local } else { self.place.own_source };
        Val::Text(if local { "local" } else { "unicast" }.to_owned())
    }
}

impl Applied<'_> {
    /// Packets that the rule's counter saw, where it has one.
    pub fn counted(&self) -> Option<u64> {
        self.rule
            .statements
            .iter()
            .find_map(|s| s.get("counter").and_then(|c| c.get("packets")).and_then(Value::as_u64))
    }
}

fn truth(holds: bool) -> Truth {
    if holds { Truth::Yes } else { Truth::No }
}

fn any(all: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::No;
    for one in all {
        match one {
            Truth::Yes => return Truth::Yes,
            Truth::Maybe => result = Truth::Maybe,
            Truth::No => {}
        }
    }
    result
}

fn all(parts: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::Yes;
    for one in parts {
        match one {
            Truth::No => return Truth::No,
            Truth::Maybe => result = Truth::Maybe,
            Truth::Yes => {}
        }
    }
    result
}

fn prefix(value: &Val, body: &Value) -> Truth {
    let Some(length) = body.get("len").and_then(Value::as_u64).filter(|l| *l <= 32) else {
        return Truth::Maybe;
    };
    let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
    let base = match body.get("addr") {
        Some(Value::String(text)) => text.parse::<Ipv4Addr>().ok().map(u32::from),
        Some(Value::Number(number)) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
        _ => None,
    };
    let own = match value {
        Val::Address(address) => Some(u32::from(*address)),
        Val::Number(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    match (own, base) {
        (Some(own), Some(base)) => truth(own & mask == base & mask),
        _ => Truth::Maybe,
    }
}

fn range(value: &Val, body: &Value) -> Truth {
    let number = |value: &Val| match value {
        Val::Number(number) => Some(*number),
        Val::Address(address) => Some(u64::from(u32::from(*address))),
        _ => None,
    };
    let bounds = body.as_array().map(Vec::as_slice);
    let Some([first, last]) = bounds else { return Truth::Maybe };
    match (number(value), number(&literal(first)), number(&literal(last))) {
        (Some(own), Some(first), Some(last)) => truth((first..=last).contains(&own)),
        _ => Truth::Maybe,
    }
}

/// A value as written in a rule.
fn literal(value: &Value) -> Val {
    match value {
        Value::Number(number) => number.as_u64().map_or(Val::Unknown, Val::Number),
        Value::String(text) => match text.parse() {
            Ok(address) => Val::Address(address),
            Err(_) => Val::Text(text.clone()),
        },
        Value::Object(object) => match object.iter().next() {
            Some((kind, body)) if kind == "concat" => match body.as_array() {
                Some(list) => Val::List(list.iter().map(literal).collect()),
                None => Val::Unknown,
            },
            _ => Val::Unknown,
        },
        _ => Val::Unknown,
    }
}

/// An address, or an address and a port, as a destination.
fn destination(value: &Val, port: Option<u16>) -> Option<(Ipv4Addr, Option<u16>)> {
    match value {
        Val::Address(address) => Some((*address, port)),
        Val::List(parts) => match parts.as_slice() {
            [Val::Address(address), Val::Number(port)] => {
                Some((*address, Some(u16::try_from(*port).ok()?)))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The pairs of a map, written in a rule or named.
fn pairs(data: Option<&Value>) -> Vec<(&Value, &Value)> {
    let list = data.map(|d| d.get("set").unwrap_or(d)).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|pair| match pair.as_array().map(Vec::as_slice) {
            Some([key, value]) => Some((key, value)),
            _ => None,
        })
        .collect()
}
