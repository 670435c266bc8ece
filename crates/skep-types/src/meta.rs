use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Position of an object's last change in the swarm's log; an update must name the current one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    #[serde(skip_serializing_if = "crate::is_default")]
    pub index: u64,
}

/// What the store notes about every object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Meta {
    pub version: Version,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
