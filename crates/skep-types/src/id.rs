use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of an object id in characters.
pub const ID_LEN: usize = 25;

/// Writes 17 random bytes as an object id: 25 characters of base 36.
///
/// The top bit is set so that the number always has 26 digits; the first carries little chance and is
/// dropped. Source: SwarmKit's identifier format.
pub fn id_from_random(mut bytes: [u8; 17]) -> String {
    bytes[0] |= 0x80;
    let mut digits = Vec::with_capacity(ID_LEN + 2);
    let mut number = bytes;
    while number.iter().any(|&b| b != 0) {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or(u8::MAX);
            remainder = value % 36;
        }
        digits.push(char::from_digit(remainder, 36).unwrap_or('0'));
    }
    digits.iter().rev().skip(digits.len() - ID_LEN).collect()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        // Shared text: ids are copied far more often than made.
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any text: who made it chose the format.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// A fresh id from 17 random bytes.
            pub fn from_random(bytes: [u8; 17]) -> Self {
                Self(id_from_random(bytes).into())
            }

            /// The first `n` characters, or the whole id where it is shorter.
            pub fn short(&self, n: usize) -> &str {
                self.0.get(..n).unwrap_or(&self.0)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }
    )*};
}

ids! {
    /// A swarm: 25 characters.
    ClusterId
    /// A host in a swarm.
    NodeId
    ServiceId
    TaskId
    /// A swarm network; local networks have 64 hexadecimal digits instead.
    NetworkId
    /// A network namespace of a host with its names and ports, for one container: 64 hexadecimal digits.
    SandboxId
    /// One attachment of a sandbox to a network: 64 hexadecimal digits.
    EndpointId
    SecretId
    ConfigId
    /// A dispatcher's session with one agent.
    SessionId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_their_text() {
        // Text; what is left of it at 4 characters.
        for (text, short) in
            [("", ""), ("abc", "abc"), ("abcdef", "abcd"), ("\u{e4}\u{f6}\u{fc}", "\u{e4}\u{f6}")]
        {
            let id = NetworkId::from(text);
            assert_eq!(
                (id.as_str(), id.to_string(), id.is_empty()),
                (text, text.to_owned(), text.is_empty())
            );
            assert_eq!(id.short(4), short);
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<NetworkId>(&json).unwrap(), id);
        }
    }

    #[test]
    fn ids_have_25_base36_characters_for_any_chance() {
        for fill in [0u8, 1, 0x7f, 0x80, 0xff] {
            let id = id_from_random([fill; 17]);
            assert_eq!(id.len(), ID_LEN, "{id}");
            assert!(id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()));
        }
    }
}
