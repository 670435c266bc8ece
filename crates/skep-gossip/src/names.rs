use std::fmt;
use std::sync::Arc;

pub use skep_types::NetworkId;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The text as it travels.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// Name of one life of a gossip node: 12 hex digits, new at every start, no node id of the
    /// swarm. A new name at a known address therefore means a restart.
    NodeName
);
name!(
    /// Name of a table; see [`crate::records`].
    Table
);
name!(
    /// Key of an entry: the endpoint's id.
    Key
);

impl NodeName {
    /// The name that six random bytes make.
    pub fn from_random(bytes: [u8; 6]) -> Self {
        Self::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

/// Where an entry is: in which network, table, under which key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The network whose members share the entry.
    pub network: NetworkId,
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Key,
}

impl EntryId {
    /// An entry's place.
    pub fn new(
        network: impl Into<NetworkId>,
        table: impl Into<Table>,
        key: impl Into<Key>,
    ) -> Self {
        Self { network: network.into(), table: table.into(), key: key.into() }
    }
}
