//! One nftables table as data, and the transactions that make the kernel's like it.

use super::digest::first;
use super::turns::{TABLE, Turns};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

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
    rules: Vec<Arc<str>>,
    /// Of a chain that leads on in turn, and has no other rule.
    turns: Option<Arc<Turns>>,
}

impl Chain {
    /// Appends a rule.
    pub fn rule(&mut self, rule: impl Into<Arc<str>>) {
        self.rules.push(rule.into());
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.turns.is_none()
    }

    fn digest(&self) -> ChainDigest {
        let mut rules = Sha256::new();
        for rule in &self.rules {
            rules.update(rule.as_bytes());
            rules.update([0]);
        }
        let mut hook = Sha256::new();
        hook.update(self.hook.as_deref().unwrap_or_default());
        let turns = self.turns.as_ref().map(|turns| turns.digest());
        ChainDigest { hook: first(hook), rules: first(rules), turns }
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
    /// Of a chain that leads on in turn. None of an earlier release did by a map.
    #[serde(default)]
    turns: Option<u64>,
}

impl ChainDigest {
    /// Whether both are the same but for where they lead in turn.
    fn is_but_for_turns(&self, other: &Self) -> bool {
        let bare = |digest: &Self| (digest.hook, digest.rules, digest.turns.is_some());
        bare(self) == bare(other)
    }
}

impl RulesetDigest {
    /// Whether it is that of no table.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Of this table, if chains lead in turn where they do in `old`, and nowhere if it does not have them.
    pub fn but_for_turns(&self, old: &Self) -> Self {
        let mut all = self.clone();
        for (name, chain) in &mut all.chains {
            chain.turns = chain.turns.map(|_| old.turns(name).unwrap_or_else(Turns::nowhere));
        }
        all
    }

    /// Where a chain leads.
    pub fn turns(&self, chain: &str) -> Option<u64> {
        self.chains.get(chain)?.turns
    }
}

/// A transaction that `nft` reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// The whole table.
    Whole(String),
    /// Parts of it. Where chains lead in turn stays as it is, and new ones lead nowhere yet: see
    /// [`RulesetDigest::but_for_turns`] and [`Ruleset::led_elsewhere`].
    Parts(String),
}

impl Ruleset {
    /// The chains that lead on in turn, in the order of names.
    pub fn turns(&self) -> impl Iterator<Item = &Arc<Turns>> {
        self.chains.values().filter_map(|chain| chain.turns.as_ref())
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

    /// A chain that others jump to, which leads on in turn. Of several with one name the first that leads anywhere
    /// counts.
    pub fn lead(&mut self, turns: &Arc<Turns>) {
        let known = &mut self.chain(turns.name()).turns;
        if known.as_ref().is_none_or(|known| known.turns().is_empty()) {
            *known = Some(Arc::clone(turns));
        }
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
        let mut text = self.make();
        self.turns().for_each(|turns| turns.fill(&mut text));
        text
    }

    /// The same, with chains that lead nowhere yet where they are to lead on in turn.
    fn make(&self) -> String {
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

    /// A transaction to this one, whose digest is `new`, from another, or `None` when there is nothing to do but to
    /// lead elsewhere in turn.
    pub fn change_from(&self, old: &RulesetDigest, new: &RulesetDigest) -> Option<Change> {
        if self.is_empty() && old.is_empty() {
            return None;
        }
        if old.is_empty() {
            return Some(Change::Parts(self.make()));
        }
        let rehooked =
            new.chains.iter().any(|(n, c)| old.chains.get(n).is_some_and(|o| o.hook != c.hook));
        if self.is_empty() || rehooked || new.head != old.head {
            return Some(Change::Whole(self.replace()));
        }
        let differs = |name: &String| match (old.chains.get(name), new.chains.get(name)) {
            (Some(old), Some(new)) => !old.is_but_for_turns(new),
            _ => true,
        };
        let differing: BTreeSet<&String> =
            old.chains.keys().chain(new.chains.keys()).filter(|name| differs(name)).collect();
        (!differing.is_empty()).then(|| Change::Parts(self.script(old, &differing)))
    }

    /// The chains that lead elsewhere in turn than in another that has them all.
    pub fn led_elsewhere(&self, old: &RulesetDigest) -> Vec<&Arc<Turns>> {
        self.turns().filter(|turns| old.turns(turns.name()) != Some(turns.digest())).collect()
    }

    fn script(&self, old: &RulesetDigest, differing: &BTreeSet<&String>) -> String {
        let mut text = format!("table ip {TABLE} {{\n");
        for (name, chain) in self.chains.iter().filter(|(n, _)| !old.chains.contains_key(*n)) {
            declare(&mut text, name, chain);
        }
        text.push_str("}\n");
        let there = |name: &&String| old.chains.contains_key(*name);
        // Emptied first, so that no rule names a chain or a map that goes.
        for name in differing.iter().copied().filter(there) {
            let _ = writeln!(text, "flush chain ip {TABLE} {name}");
        }
        for name in differing.iter().filter(|name| old.turns(name).is_some()) {
            let _ = writeln!(text, "delete map ip {TABLE} {name}");
        }
        for name in differing.iter().copied().filter(there) {
            if !self.chains.contains_key(name) {
                let _ = writeln!(text, "delete chain ip {TABLE} {name}");
            }
        }
        for (name, chain) in self.chains.iter().filter(|(n, _)| differing.contains(n)) {
            fill(&mut text, name, chain);
        }
        text
    }
}

fn declare(text: &mut String, name: &str, chain: &Chain) {
    let hook = chain.hook.as_deref().unwrap_or_default();
    let _ = writeln!(text, " chain {name} {{ {hook} }}");
}

fn fill(text: &mut String, name: &str, chain: &Chain) {
    if let Some(turns) = &chain.turns {
        turns.declare(text);
    }
    for rule in &chain.rules {
        let _ = writeln!(text, "add rule ip {TABLE} {name} {rule}");
    }
}
