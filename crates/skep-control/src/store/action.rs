use serde::{Deserialize, Serialize};
use skep_types::Version;

use super::{Object, ObjectKey};

/// One change of one object; a batch of them is one entry of the log and happens wholly or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// The store sets `meta`.
    Create(Object),
    /// `meta.version` is the version the change was based on.
    Update(Object),
    /// `version` is the version the removal was based on.
    Remove { key: ObjectKey, version: Version },
}

impl Action {
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Create(object) | Self::Update(object) => object.key(),
            Self::Remove { key, .. } => key.clone(),
        }
    }
}

/// What an applied action did, for watchers.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Created(Object),
    Updated { old: Object, new: Object },
    Removed(Object),
}

impl Change {
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Created(object) | Self::Removed(object) | Self::Updated { new: object, .. } => {
                object.key()
            }
        }
    }

    pub fn old(&self) -> Option<&Object> {
        match self {
            Self::Created(_) => None,
            Self::Updated { old, .. } | Self::Removed(old) => Some(old),
        }
    }

    pub fn new_object(&self) -> Option<&Object> {
        match self {
            Self::Created(new) | Self::Updated { new, .. } => Some(new),
            Self::Removed(_) => None,
        }
    }
}

/// The changes of one batch, in the batch's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Position in the log; the version of the changed objects.
    pub index: u64,
    pub list: Vec<Change>,
}
