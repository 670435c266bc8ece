//! Identifiers used by the network room. All are opaque text; the formats are
//! Docker's: 64 hex for local objects, 25 characters of base 36 for swarm ones.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps an id; no validation, whoever created it chose the format.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first `n` characters, or the whole id where it is shorter.
            pub fn short(&self, n: usize) -> &str {
                self.0.get(..n).unwrap_or(&self.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }
    };
}

id!(
    /// A network: 64 hex when local, 25 characters of base 36 when a swarm overlay.
    NetworkId
);
id!(
    /// A sandbox (one network namespace): 64 hex, chosen by the caller.
    SandboxId
);
id!(
    /// One attachment of a sandbox to a network: 64 hex.
    EndpointId
);
id!(
    /// A swarm service: 25 characters of base 36.
    ServiceId
);

/// `len` bytes of chance as lower-case hex: how local ids are made. The chance
/// is an argument so that planning stays pure.
pub fn hex_id(random: &[u8]) -> String {
    use std::fmt::Write as _;
    random.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
