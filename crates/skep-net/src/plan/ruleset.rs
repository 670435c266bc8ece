//! One nftables table as data, and the transactions that make the kernel's like it.

use super::turns;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

/// Name of our table, family `ip`, in every namespace.
pub const TABLE: &str = "skep";

/// Our table in one namespace. Empty means that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Comment of the table; empty for none.
    owner: String,
    /// Sets that rules fill, with their declarations.
    sets: BTreeMap<String, String>,
    chains: BTreeMap<String, Chain>,
}

/// A chain. Chains are the unit of change: one that did not change keeps its
/// counters and its place in the turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// `type … hook …;` of a base chain.
    hook: Option<String>,
    /// In order.
    rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// As `nft` reads it.
    Text(Arc<str>),
    /// Whoever comes is led on in turn. Namespaces that have the same share it: of a service with hundreds of tasks
    /// it is long.
    Turns(Arc<Turns>),
}

/// Addresses that connections of protocols with ports are led to, one after the other.
#[derive(Debug)]
pub struct Turns {
    to: Vec<Ipv4Addr>,
    digest: u64,
    /// See [`Turns::kept`].
    kept: OnceLock<Vec<Vec<u8>>>,
}

impl PartialEq for Turns {
    fn eq(&self, other: &Self) -> bool {
        self.to == other.to
    }
}

impl Eq for Turns {}

impl Turns {
    /// To these, in this order.
    pub fn new(to: Vec<Ipv4Addr>) -> Self {
        let mut hash = Sha256::new();
        to.iter().for_each(|address| hash.update(address.octets()));
        let digest = first(hash);
        Self { to, digest, kept: OnceLock::new() }
    }

    /// What was made of them, once for all who share them.
    pub fn kept(&self, make: impl FnOnce(&[Ipv4Addr]) -> Vec<Vec<u8>>) -> &[Vec<u8>] {
        self.kept.get_or_init(|| make(&self.to))
    }

    /// Where to.
    pub fn to(&self) -> &[Ipv4Addr] {
        &self.to
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Turns(to) => {
                write!(f, "meta l4proto {{ tcp, udp, sctp }} dnat to {}", turns(&to.to))
            }
        }
    }
}

impl From<&str> for Rule {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Rule {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Rule {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

impl From<Arc<Turns>> for Rule {
    fn from(turns: Arc<Turns>) -> Self {
        Self::Turns(turns)
    }
}

impl Chain {
    /// Appends a rule.
    pub fn rule(&mut self, rule: impl Into<Rule>) {
        self.rules.push(rule.into());
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn digest(&self) -> ChainDigest {
        let mut hash = Sha256::new();
        for rule in &self.rules {
            match rule {
                Rule::Text(text) => hash.update(text.as_bytes()),
                Rule::Turns(turns) => hash.update(turns.digest.to_be_bytes()),
            }
            hash.update([0]);
        }
        let mut hook = Sha256::new();
        hook.update(self.hook.as_deref().unwrap_or_default());
        ChainDigest { hook: first(hook), rules: first(hash) }
    }
}

/// What tells whether two tables are the same, and in which chains they differ. Eight bytes of SHA-256 for each part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesetDigest {
    /// Of owner and sets.
    head: u64,
    chains: BTreeMap<String, ChainDigest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ChainDigest {
    hook: u64,
    rules: u64,
}

impl RulesetDigest {
    /// Whether it is that of no table.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

/// Of a text.
pub fn digest(text: &str) -> u64 {
    first(Sha256::new_with_prefix(text))
}

fn first(hash: Sha256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// A transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// As `nft` reads it.
    Script(String),
    /// Nothing but where these chains lead, each with one rule, or without any.
    Turns(Vec<(&'a str, Option<&'a Turns>)>),
}

impl Ruleset {
    /// Where a chain leads.
    #[cfg(test)]
    pub fn turns(&self, chain: &str) -> Option<&Arc<Turns>> {
        self.chains.get(chain)?.rules.iter().find_map(|rule| match rule {
            Rule::Turns(turns) => Some(turns),
            Rule::Text(_) => None,
        })
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Says in the table's comment whose it is.
    pub fn owner(&mut self, owner: &str) {
        owner.clone_into(&mut self.owner);
    }

    /// A base chain of type nat: `prerouting`, `output` or `postrouting`.
    pub fn nat(&mut self, hook: &'static str) -> &mut Chain {
        let priority = match hook {
            "postrouting" => 100,
            _ => -100,
        };
        self.base(&format!("nat-{hook}"), "nat", hook, priority)
    }

    /// A base chain.
    pub fn base(&mut self, name: &str, kind: &str, hook: &str, priority: i32) -> &mut Chain {
        let chain = self.chains.entry(name.to_owned()).or_default();
        chain.hook = Some(format!("type {kind} hook {hook} priority {priority}; policy accept;"));
        chain
    }

    /// A chain that others jump to.
    pub fn chain(&mut self, name: &str) -> &mut Chain {
        self.chains.entry(name.to_owned()).or_default()
    }

    /// A set that rules fill.
    pub fn set(&mut self, name: &str, declaration: &str) {
        self.sets.insert(name.to_owned(), declaration.to_owned());
    }

    /// Drops base chains without rules: hooks cost every packet something.
    pub fn tidy(&mut self) {
        self.chains.retain(|_, c| !(c.hook.is_some() && c.is_empty()));
    }

    /// What it is told by.
    pub fn digest(&self) -> RulesetDigest {
        if self.is_empty() {
            return RulesetDigest::default();
        }
        let mut head = Sha256::new();
        for text in std::iter::once(&self.owner).chain(self.sets.iter().flat_map(|(k, v)| [k, v])) {
            head.update(text);
            head.update([0]);
        }
        let chains = self.chains.iter().map(|(name, chain)| (name.clone(), chain.digest()));
        RulesetDigest { head: first(head), chains: chains.collect() }
    }

    /// A transaction that replaces whatever is there.
    pub fn replace(&self) -> String {
        let mut text = format!("table ip {TABLE}\ndelete table ip {TABLE}\n");
        if !self.is_empty() {
            let _ = writeln!(text, "table ip {TABLE} {{");
            if !self.owner.is_empty() {
                let _ = writeln!(text, " comment \"{}\"", self.owner);
            }
            for (name, declaration) in &self.sets {
                let _ = writeln!(text, " set {name} {{ {declaration} }}");
            }
            // Declared before filled, because rules name chains further down.
            for (name, chain) in &self.chains {
                declare(&mut text, name, chain);
            }
            text.push_str("}\n");
            for (name, chain) in &self.chains {
                fill(&mut text, name, chain);
            }
        }
        text
    }

    /// A transaction to this one, whose digest is `new`, from another that touches only chains that differ, or `None`
    /// when there is nothing to do.
    pub fn change_from(&self, old: &RulesetDigest, new: &RulesetDigest) -> Option<Change<'_>> {
        if new == old {
            return None;
        }
        let rehooked =
            new.chains.iter().any(|(n, c)| old.chains.get(n).is_some_and(|o| o.hook != c.hook));
        if old.is_empty() || self.is_empty() || rehooked || new.head != old.head {
            return Some(Change::Script(self.replace()));
        }
        let differs = |name: &String| old.chains.get(name) != new.chains.get(name);
        let differing: BTreeSet<&String> =
            old.chains.keys().chain(new.chains.keys()).filter(|name| differs(name)).collect();
        let only_turns = differing.iter().map(|name| self.turns_of(name, old)).collect();
        Some(match only_turns {
            Some(turns) => Change::Turns(turns),
            None => Change::Script(self.script(old, &differing)),
        })
    }

    /// Where a chain leads that was there and is now one of turns alone.
    fn turns_of(&self, name: &str, old: &RulesetDigest) -> Option<(&str, Option<&Turns>)> {
        let (name, chain) = self.chains.get_key_value(name)?;
        let to = match chain.rules.as_slice() {
            [] => None,
            [Rule::Turns(turns)] => Some(&**turns),
            _ => return None,
        };
        old.chains.contains_key(name).then_some((name, to))
    }

    fn script(&self, old: &RulesetDigest, differing: &BTreeSet<&String>) -> String {
        let mut text = format!("table ip {TABLE} {{\n");
        for (name, chain) in self.chains.iter().filter(|(n, _)| !old.chains.contains_key(*n)) {
            declare(&mut text, name, chain);
        }
        text.push_str("}\n");
        let gone: Vec<&String> =
            old.chains.keys().filter(|n| !self.chains.contains_key(*n)).collect();
        let changed = differing.iter().copied().filter(|name| self.chains.contains_key(*name));
        let changed = changed.filter(|name| old.chains.contains_key(*name));
        // Emptied first, so that no rule names a chain that goes.
        for name in gone.iter().copied().chain(changed) {
            let _ = writeln!(text, "flush chain ip {TABLE} {name}");
        }
        for (name, chain) in self.chains.iter().filter(|(n, _)| differing.contains(n)) {
            fill(&mut text, name, chain);
        }
        for name in gone {
            let _ = writeln!(text, "delete chain ip {TABLE} {name}");
        }
        text
    }
}

fn declare(text: &mut String, name: &str, chain: &Chain) {
    let hook = chain.hook.as_deref().unwrap_or_default();
    let _ = writeln!(text, " chain {name} {{ {hook} }}");
}

fn fill(text: &mut String, name: &str, chain: &Chain) {
    for rule in &chain.rules {
        let _ = writeln!(text, "add rule ip {TABLE} {name} {rule}");
    }
}
