//! The in-process control API: what a door (the Engine API, the remote Control service) can ask of
//! the swarm.
//!
//! Every call resolves references as Docker does: whole id first, then whole name, then id prefix.
//! Calls that change something return once the change is committed in the raft log, so nothing
//! acknowledged is lost; the object they return is as it was just after.

mod cluster;
mod error;
mod filter;
mod logs;
mod networks;
mod nodes;
mod reference;
mod request;
mod secrets;
mod services;
mod tasks;

use std::pin::Pin;
use std::sync::{Arc, Weak};

use futures::Stream;
use skep_control::{Action, Rng, Store};
use skep_types::{ErrorKind, Timestamp};

use crate::shared::Shared;
use crate::store::{Watcher, WriteError};

pub use error::ControlError;
pub use filter::{DesiredStateFilter, Filter, ModeFilter, NodeFilter, ServiceFilter, TaskFilter};
pub use request::{
    ClusterUpdate, LogMessage, LogOptions, LogSelector, LogStream, RegistryAuth, ServiceTaskCounts,
    ServiceUpdate,
};

/// Log messages as they come; an error ends the stream. Dropping it ends the subscription.
pub type LogMessages = Pin<Box<dyn Stream<Item = Result<LogMessage>> + Send>>;

type Result<T> = std::result::Result<T, ControlError>;

/// The control API of a manager. Cheap to clone; outlives the manager harmlessly (calls then answer
/// [`ErrorKind::Unavailable`]).
#[derive(Clone)]
pub struct Control {
    shared: Weak<Shared>,
}

impl Control {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared) }
    }

    fn shared(&self) -> Result<Arc<Shared>> {
        let gone = || ControlError::new(ErrorKind::Unavailable, "this manager has stopped");
        self.shared.upgrade().ok_or_else(gone)
    }

    /// The objects as they are now.
    pub fn read(&self) -> Result<Store> {
        Ok(self.shared()?.cell.read())
    }

    /// The objects as they are now, and every change from here on.
    pub fn watch(&self) -> Result<(Store, Watcher)> {
        Ok(self.shared()?.cell.watch())
    }

    /// Decides on the latest store and commits; answers the store after it.
    async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&Store, Timestamp, &mut dyn Rng) -> Result<(T, Vec<Action>)>
        + Send
        + 'static,
    ) -> Result<(Store, T)> {
        let shared = self.shared()?;
        let written = shared.writer.write(move |store, now| {
            let (answer, actions) = decide(store, now, &mut crate::chance::fill)?;
            Ok::<_, ControlError>((actions, answer))
        });
        let (_, answer) = written.await??;
        Ok((shared.cell.read(), answer))
    }
}

impl From<WriteError> for ControlError {
    fn from(error: WriteError) -> Self {
        use skep_control::ApplyError;
        match error {
            WriteError::Refused(refused) => match refused {
                ApplyError::OutOfSequence { .. } => {
                    Self::new(ErrorKind::OutOfSequence, refused.to_string())
                }
                ApplyError::Exists { .. } | ApplyError::NameInUse { .. } => {
                    Self::new(ErrorKind::AlreadyExists, refused.to_string())
                }
                ApplyError::NotFound { .. } => Self::new(ErrorKind::NotFound, refused.to_string()),
                ApplyError::StaleIndex { .. } => Self::new(ErrorKind::System, refused.to_string()),
            },
            WriteError::Overtaken(why) => Self::new(ErrorKind::OutOfSequence, why.to_string()),
            WriteError::NotLeader { .. } | WriteError::Unknown => Self::new(
                ErrorKind::Unavailable,
                "The swarm does not have a leader. It's possible that too few managers are online. \
                 Make sure more than half of the managers are online.",
            ),
            WriteError::Disk { .. } => Self::new(ErrorKind::System, error.to_string()),
            WriteError::Stopped => Self::new(ErrorKind::Unavailable, error.to_string()),
        }
    }
}

impl From<skep_control::admission::ControlError> for ControlError {
    fn from(refused: skep_control::admission::ControlError) -> Self {
        Self::new(refused.kind, refused.message)
    }
}
