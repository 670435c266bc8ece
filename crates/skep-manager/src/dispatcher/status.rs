use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use skep_control::{Action, Store};
use skep_types::{NodeId, Task, TaskId, TaskStatus, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::store::{WriteError, Writer};

/// Statuses that agents reported and the log does not have yet: the last per task.
///
/// While one batch goes to disk the next gathers, so a task that runs through several states costs one
/// write, and none waits for a timer.
#[derive(Clone)]
pub(crate) struct StatusReports {
    pending: Arc<Mutex<BTreeMap<TaskId, TaskStatus>>>,
    wake: Arc<Notify>,
}

impl StatusReports {
    pub fn new() -> Self {
        Self { pending: Arc::default(), wake: Arc::default() }
    }

    /// Takes reports in. They are lost if this leader is: the agent tells them again in its next
    /// session.
    pub fn add(&self, reports: impl IntoIterator<Item = (TaskId, TaskStatus)>) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).extend(reports);
        self.wake.notify_one();
    }

    fn take(&self) -> BTreeMap<TaskId, TaskStatus> {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes reports as they come, until `stop` or until writing fails.
    pub async fn run(
        &self,
        writer: &Writer,
        leader: NodeId,
        stop: &CancellationToken,
    ) -> Result<(), WriteError> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.wake.notified() => {}
            }
            let reports = self.take();
            if reports.is_empty() {
                continue;
            }
            let leader = leader.clone();
            let written = writer.write(move |store, now| {
                let actions = apply(store, reports, &leader, now);
                Ok::<_, std::convert::Infallible>((actions, ()))
            });
            written.await?.map(|_| ()).unwrap_or_else(|never| match never {});
        }
    }
}

/// The changes that reports make: unknown tasks, equal statuses and steps back are left out.
fn apply(
    store: &Store,
    reports: BTreeMap<TaskId, TaskStatus>,
    leader: &NodeId,
    now: Timestamp,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (id, status) in reports {
        let Some(task) = store.task(&id) else { continue };
        if status.state < task.status.state || same(&status, &task.status) {
            continue;
        }
        tracing::debug!(
            task = %id, from = %task.status.state, to = %status.state, desired = %task.desired_state,
            "task state changed"
        );
        let mut task = Task::clone(task);
        task.status = TaskStatus { applied_at: Some(now), applied_by: leader.clone(), ..status };
        actions.push(Action::Update(task.into()));
    }
    actions
}

/// Equal but for the leader's own notes.
fn same(a: &TaskStatus, b: &TaskStatus) -> bool {
    let bare = |s: &TaskStatus| TaskStatus {
        applied_at: None,
        applied_by: NodeId::default(),
        ..s.clone()
    };
    bare(a) == bare(b)
}
