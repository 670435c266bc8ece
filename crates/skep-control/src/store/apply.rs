use skep_types::{Timestamp, Version};
use thiserror::Error;

use super::{Action, Change, Changes, Kind, Object, ObjectKey, Store};

/// Why a batch was refused. The store is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The caller should read again and decide again.
    #[error("update out of sequence")]
    OutOfSequence { key: ObjectKey, based_on: Version, current: Version },
    #[error("object already exists: {} {}", key.kind().as_str(), key.id())]
    Exists { key: ObjectKey },
    #[error("object does not exist: {} {}", key.kind().as_str(), key.id())]
    NotFound { key: ObjectKey },
    #[error("name conflicts with an existing object: {} {name} already exists", kind.as_str())]
    NameInUse { kind: Kind, name: String },
    #[error("log index {index} is not above the store's {current}")]
    StaleIndex { index: u64, current: u64 },
}

impl Store {
    /// Applies one entry of the log. `index` is its position, `time` the moment its proposer wrote
    /// into it; both are the same on every replica, and so is the result.
    ///
    /// # Errors
    /// The batch as a whole is refused, without any effect, if an action is based on another version
    /// than the current one, creates what exists, changes what does not, or takes a name in use.
    pub fn apply(
        &mut self,
        index: u64,
        time: Timestamp,
        actions: Vec<Action>,
    ) -> Result<Changes, ApplyError> {
        if index <= self.index {
            return Err(ApplyError::StaleIndex { index, current: self.index });
        }
        let mut next = self.clone();
        next.index = index;
        let mut list = Vec::with_capacity(actions.len());
        for action in actions {
            list.push(next.apply_one(index, time, action)?);
        }
        *self = next;
        Ok(Changes { index, list })
    }

    fn apply_one(
        &mut self,
        index: u64,
        time: Timestamp,
        action: Action,
    ) -> Result<Change, ApplyError> {
        let version = Version { index };
        match action {
            Action::Create(mut object) => {
                let key = object.key();
                if self.get(&key).is_some() {
                    return Err(ApplyError::Exists { key });
                }
                self.check_name(&object)?;
                let meta = object.meta_mut();
                meta.version = version;
                meta.created_at = time;
                meta.updated_at = time;
                self.put(object.clone());
                Ok(Change::Created(object))
            }
            Action::Update(mut object) => {
                let key = object.key();
                let old =
                    self.get(&key).ok_or_else(|| ApplyError::NotFound { key: key.clone() })?;
                check_version(key, object.meta().version, old.meta().version)?;
                self.check_name(&object)?;
                let created_at = old.meta().created_at;
                let meta = object.meta_mut();
                meta.version = version;
                meta.created_at = created_at;
                meta.updated_at = time;
                self.put(object.clone());
                Ok(Change::Updated { old, new: object })
            }
            Action::Remove { key, version } => {
                let old =
                    self.get(&key).ok_or_else(|| ApplyError::NotFound { key: key.clone() })?;
                check_version(key.clone(), version, old.meta().version)?;
                self.take(&key);
                Ok(Change::Removed(old))
            }
        }
    }

    fn check_name(&self, object: &Object) -> Result<(), ApplyError> {
        let key = object.key();
        let name = object.name();
        match self.named(key.kind(), name) {
            Some(owner) if owner != key.id() => {
                Err(ApplyError::NameInUse { kind: key.kind(), name: name.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn check_version(key: ObjectKey, based_on: Version, current: Version) -> Result<(), ApplyError> {
    if based_on == current {
        Ok(())
    } else {
        Err(ApplyError::OutOfSequence { key, based_on, current })
    }
}
