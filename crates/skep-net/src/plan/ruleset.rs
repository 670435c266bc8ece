//! One nftables table as data, and the transactions that make the kernel's like it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Name of our table, family `ip`, in every namespace.
pub const TABLE: &str = "skep";

/// Our table in one namespace. Empty means that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// Comment of the table; empty for none.
    #[serde(default)]
    owner: String,
    /// Sets that rules fill, with their declarations.
    #[serde(default)]
    sets: BTreeMap<String, String>,
    chains: BTreeMap<String, Chain>,
}

/// A chain. Chains are the unit of change: one that did not change keeps its
/// counters and its place in the turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// `type … hook …;` of a base chain.
    hook: Option<String>,
    /// In order. Namespaces that have the same rule share its text: one of a service with hundreds of tasks is
    /// long.
    rules: Vec<Arc<str>>,
}

impl Chain {
    /// Appends a rule.
    pub fn rule(&mut self, rule: impl Into<Arc<str>>) {
        self.rules.push(rule.into());
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Ruleset {
    /// The rules of a chain.
    #[cfg(test)]
    pub fn texts(&self, chain: &str) -> Vec<&str> {
        self.chains.get(chain).into_iter().flat_map(|chain| &chain.rules).map(|r| &**r).collect()
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

    /// A transaction from `old` to this one that touches only chains that differ,
    /// or `None` when there is nothing to do.
    pub fn change_from(&self, old: &Self) -> Option<String> {
        if self == old {
            return None;
        }
        let rehooked =
            self.chains.iter().any(|(n, c)| old.chains.get(n).is_some_and(|o| o.hook != c.hook));
        if old.is_empty()
            || self.is_empty()
            || rehooked
            || self.sets != old.sets
            || self.owner != old.owner
        {
            return Some(self.replace());
        }
        let mut text = format!("table ip {TABLE} {{\n");
        for (name, chain) in self.chains.iter().filter(|(n, _)| !old.chains.contains_key(*n)) {
            declare(&mut text, name, chain);
        }
        text.push_str("}\n");
        let gone: Vec<&String> =
            old.chains.keys().filter(|n| !self.chains.contains_key(*n)).collect();
        let changed: Vec<(&String, &Chain)> = self
            .chains
            .iter()
            .filter(|(n, c)| old.chains.get(*n).is_some_and(|o| o != *c))
            .collect();
        // Emptied first, so that no rule names a chain that goes.
        for name in gone.iter().copied().chain(changed.iter().map(|(n, _)| *n)) {
            let _ = writeln!(text, "flush chain ip {TABLE} {name}");
        }
        for (name, chain) in self.chains.iter().filter(|(n, c)| old.chains.get(*n) != Some(c)) {
            fill(&mut text, name, chain);
        }
        for name in gone {
            let _ = writeln!(text, "delete chain ip {TABLE} {name}");
        }
        Some(text)
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
