use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::is_default;

/// A transport protocol that has ports. In the text form, as in `80/tcp`, and in JSON lower case.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    #[serde(alias = "")]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A text that names none of the protocols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol {0:?}: it is none of tcp, udp and sctp")]
pub struct UnknownProtocol(String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    /// Reads a name in any case, as Docker does. An empty one is none: what it stands for is the caller's.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |protocol: &Self| text.eq_ignore_ascii_case(protocol.as_str());
        let found = [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(named);
        found.ok_or_else(|| UnknownProtocol(text.to_owned()))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// On every host, through the routing mesh.
    #[default]
    #[serde(alias = "")]
    Ingress,
    /// On the task's host only.
    Host,
}

/// A port of a service. Ports are `u32` as on the wire; validation bounds them to 1–65535 (0 as
/// published port: choose one).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortConfig {
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    pub protocol: Protocol,
    #[serde(skip_serializing_if = "is_default")]
    pub target_port: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub published_port: u32,
    pub publish_mode: PublishMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_one_text_form() {
        // What a user writes, what it is, how it is written.
        for (text, protocol, written) in [
            ("tcp", Some(Protocol::Tcp), "tcp"),
            ("UDP", Some(Protocol::Udp), "udp"),
            ("Sctp", Some(Protocol::Sctp), "sctp"),
            ("", None, ""),
            ("tcp ", None, ""),
            ("icmp", None, ""),
        ] {
            assert_eq!(text.parse().ok(), protocol, "{text:?}");
            if let Some(protocol) = protocol {
                assert_eq!(protocol.to_string(), written);
                assert_eq!(serde_json::json!(protocol), serde_json::json!(written));
            }
        }
        // The API leaves it out where it is TCP.
        assert_eq!(serde_json::from_str::<Protocol>("\"\"").unwrap(), Protocol::Tcp);
    }
}
