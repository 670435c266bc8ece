//! Downloads that are under way.

use tokio::{sync::watch, task::AbortHandle};

use crate::error::Shared;

/// How far a download is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    Waiting,
    /// Bytes so far.
    Running(u64),
    Verifying,
    /// In the content store; stays as long as the [`Download`] does.
    Done,
    Failed(Shared),
}

/// A running or finished download. Whoever holds it keeps it going; when the last one drops it, it
/// stops and what it had is removed.
pub(super) struct Download {
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) task: AbortHandle,
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Download {
    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }
}
