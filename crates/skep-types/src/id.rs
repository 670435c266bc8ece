use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

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
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// A fresh id from 17 random bytes.
            pub fn from_random(bytes: [u8; 17]) -> Self {
                Self(id_from_random(bytes))
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
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
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
    SecretId
    ConfigId
    /// A dispatcher's session with one agent.
    SessionId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_25_base36_characters_for_any_chance() {
        for fill in [0u8, 1, 0x7f, 0x80, 0xff] {
            let id = id_from_random([fill; 17]);
            assert_eq!(id.len(), ID_LEN, "{id}");
            assert!(id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()));
        }
    }
}
