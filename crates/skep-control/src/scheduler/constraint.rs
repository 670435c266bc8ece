//! Placement constraints: `node.labels.disk==ssd`, `node.role!=manager`.

use std::net::IpAddr;

use ipnet::IpNet;
use skep_types::{Node, NodeRole};
use thiserror::Error;

/// Why a text is not a constraint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConstraintError {
    #[error("constraint expected one operator from ==, !=")]
    NoOperator { text: String },
    #[error("key '{key}' is invalid")]
    Key { key: String },
    #[error("value '{value}' is invalid")]
    Value { value: String },
}

/// A condition on a node. Values are compared without regard to case; a missing label has the empty
/// value; an unknown key never fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    key: String,
    equal: bool,
    value: String,
}

/// # Errors
/// The first text that is not a constraint.
pub fn parse(texts: &[String]) -> Result<Vec<Constraint>, ConstraintError> {
    texts.iter().map(|text| Constraint::parse(text)).collect()
}

/// Whether a node satisfies all of `texts`; malformed ones fit nothing.
pub(crate) fn all_fit(texts: &[String], node: &Node) -> bool {
    texts.is_empty() || parse(texts).is_ok_and(|list| list.iter().all(|c| c.fits(node)))
}

impl Constraint {
    /// # Errors
    /// No or several operators, or characters that keys or values cannot have.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let (left, right, equal) = match (text.split_once("=="), text.split_once("!=")) {
            (Some((left, right)), None) => (left, right, true),
            (None, Some((left, right))) => (left, right, false),
            (Some(eq), Some(ne)) if eq.0.len() < ne.0.len() => (eq.0, eq.1, true),
            (Some(_), Some(ne)) => (ne.0, ne.1, false),
            (None, None) => return Err(ConstraintError::NoOperator { text: text.to_owned() }),
        };
        let (key, value) = (left.trim(), right.trim());
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let rest = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if key.len() < 2 || !key.starts_with(first) || !key.chars().all(rest) {
            return Err(ConstraintError::Key { key: key.to_owned() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_ \t.*()?+[]\\^$|/".contains(c);
        if value.is_empty() || !value.chars().all(allowed) {
            return Err(ConstraintError::Value { value: value.to_owned() });
        }
        Ok(Self { key: key.to_owned(), equal, value: value.to_owned() })
    }

    pub fn fits(&self, node: &Node) -> bool {
        let key = self.key.to_ascii_lowercase();
        let platform = &node.description.platform;
        match key.as_str() {
            "node.id" => self.is(node.id.as_str()),
            "node.hostname" => self.is(&node.description.hostname),
            "node.ip" => self.is_address(&node.status.addr),
            "node.role" => self.is(match node.role {
                NodeRole::Manager => "manager",
                NodeRole::Worker => "worker",
            }),
            "node.platform.os" => self.is(&platform.os),
            "node.platform.arch" => {
                let wanted = normal_arch(&self.value);
                wanted.eq_ignore_ascii_case(normal_arch(&platform.architecture)) == self.equal
            }
            _ => {
                // Keys of labels keep their case.
                let label =
                    |prefix: &str| key.starts_with(prefix).then(|| &self.key[prefix.len()..]);
                if let Some(name) = label("node.labels.") {
                    self.is(node.spec.annotations.labels.get(name).map_or("", String::as_str))
                } else if let Some(name) = label("engine.labels.") {
                    let engine = node.description.engine.as_ref();
                    let value = engine.and_then(|engine| engine.labels.get(name));
                    self.is(value.map_or("", String::as_str))
                } else {
                    false
                }
            }
        }
    }

    fn is(&self, value: &str) -> bool {
        self.value.eq_ignore_ascii_case(value) == self.equal
    }

    /// An address, or one within a subnet.
    fn is_address(&self, address: &str) -> bool {
        let address: Option<IpAddr> = address.parse().ok();
        let inside = if let Ok(wanted) = self.value.parse::<IpAddr>() {
            address == Some(wanted)
        } else if let Ok(subnet) = self.value.parse::<IpNet>() {
            address.is_some_and(|address| subnet.contains(&address))
        } else {
            return false;
        };
        inside == self.equal
    }
}

/// One name per architecture.
pub(crate) fn normal_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
