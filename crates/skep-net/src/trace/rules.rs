//! nftables rules as the kernel has them, read from `nft -j list ruleset`.

use serde_json::Value;
use std::collections::BTreeMap;

/// All tables of a namespace.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub chains: Vec<Chain>,
    /// Elements of named sets and maps, by table and name.
    pub sets: BTreeMap<(Table, String), Value>,
}

/// Family and name, such as `ip skep`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    pub family: String,
    pub name: String,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// A chain.
#[derive(Debug, Clone)]
pub struct Chain {
    pub table: Table,
    pub name: String,
    /// `None` for chains that others jump to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `prerouting` and so on.
    pub name: String,
    pub priority: i64,
    /// Whether packets that no rule judged are dropped.
    pub drops: bool,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pub handle: u64,
    /// As `nft list ruleset` shows it.
    pub text: String,
    /// Its statements, in order.
    pub statements: Vec<Value>,
}

impl Tables {
    /// Reads both listings. What cannot be read as a table, chain or rule is passed
    /// over: a foreign object must not hide ours.
    ///
    /// Fails when `json` is not what `nft -j` writes.
    pub fn parse(json: &str, annotated: &str) -> Result<Self, serde_json::Error> {
        let listing: Value = serde_json::from_str(json)?;
        let texts = texts(annotated);
        let mut tables = Self::default();
        let objects = listing.get("nftables").and_then(Value::as_array);
        for object in objects.into_iter().flatten() {
            if let Some(chain) = object.get("chain").and_then(chain) {
                tables.chains.push(chain);
            } else if let Some((table, name, rule)) = object.get("rule").and_then(rule) {
                let text = texts.get(&(table.clone(), rule.handle)).cloned();
                let rule =
                    Rule { text: text.unwrap_or_else(|| "(no longer there)".to_owned()), ..rule };
                let found = tables.chains.iter_mut().find(|c| c.table == table && c.name == name);
                if let Some(chain) = found {
                    chain.rules.push(rule);
                }
            } else if let Some(set) = object.get("set").or_else(|| object.get("map"))
                && let (Some(table), Some(name)) = (table(set), text(set, "name"))
            {
                let elements = set.get("elem").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
                tables.sets.insert((table, name), elements);
            }
        }
        Ok(tables)
    }

    /// A chain of a table.
    pub fn chain(&self, table: &Table, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.table == *table && c.name == name)
    }

    /// Base chains that IPv4 packets pass at a hook, in their order.
    pub fn at(&self, hook: &str) -> Vec<(&Chain, &Hook)> {
        let mut found: Vec<(&Chain, &Hook)> = self
            .chains
            .iter()
            .filter(|c| matches!(c.table.family.as_str(), "ip" | "inet"))
            .filter_map(|c| Some((c, c.hook.as_ref().filter(|h| h.name == hook)?)))
            .collect();
        found.sort_by_key(|(_, hook)| hook.priority);
        found
    }
}

fn text(object: &Value, key: &str) -> Option<String> {
    Some(object.get(key)?.as_str()?.to_owned())
}

fn table(object: &Value) -> Option<Table> {
    Some(Table { family: text(object, "family")?, name: text(object, "table")? })
}

fn chain(object: &Value) -> Option<Chain> {
    let hook = text(object, "hook").map(|name| Hook {
        kind: text(object, "type").unwrap_or_default(),
        name,
        priority: object.get("prio").and_then(Value::as_i64).unwrap_or_default(),
        drops: text(object, "policy").as_deref() == Some("drop"),
    });
    Some(Chain { table: table(object)?, name: text(object, "name")?, hook, rules: Vec::new() })
}

fn rule(object: &Value) -> Option<(Table, String, Rule)> {
    let rule = Rule {
        handle: object.get("handle")?.as_u64()?,
        text: String::new(),
        statements: object.get("expr")?.as_array()?.clone(),
    };
    Some((table(object)?, text(object, "chain")?, rule))
}

/// The rules of `nft -a list ruleset` by table and handle. A rule ends with its
/// handle; one with a long set goes over several lines.
fn texts(listing: &str) -> BTreeMap<(Table, u64), String> {
    let mut found = BTreeMap::new();
    let mut table = None;
    let mut pending = String::new();
    for line in listing.lines() {
        let line = line.trim();
        let (body, handle) = match line.rsplit_once("# handle ") {
            Some((body, handle)) => (body.trim(), handle.trim().parse::<u64>().ok()),
            None => (line, None),
        };
        if let Some(rest) = body.strip_prefix("table ").and_then(|r| r.strip_suffix(" {")) {
            let (family, name) = rest.split_once(' ').unwrap_or(("ip", rest));
            table = Some(Table { family: family.to_owned(), name: name.to_owned() });
            pending.clear();
        } else if body.starts_with("chain ") && body.ends_with('{')
            || (body.starts_with("type ") && body.contains(" hook "))
            || (handle.is_none() && matches!(line, "" | "}"))
        {
            pending.clear();
        } else {
            if !pending.is_empty() {
                pending.push(' ');
            }
            pending.push_str(body);
            if let (Some(handle), Some(table)) = (handle, &table) {
                found.insert((table.clone(), handle), std::mem::take(&mut pending));
            }
        }
    }
    found
}
