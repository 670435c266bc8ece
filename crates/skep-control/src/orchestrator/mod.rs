//! What tasks a service should have. Every function compares the service with its tasks and changes
//! the difference in the draft; nothing is remembered between calls but what [`Updater`] notes for
//! its statistics.

mod cleanup;
mod dirty;
mod global;
mod jobs;
mod new_task;
mod reaper;
mod replicated;
mod restart;
mod slot;
mod updater;

pub(crate) use cleanup::{orphan_lost_tasks, remove_stray_tasks};
pub(crate) use dirty::is_up_to_date;
pub(crate) use updater::Updater;

use skep_types::{ServiceId, ServiceMode, TaskState, Timestamp};

use crate::{Draft, Rng};

/// The earliest moment at which something has to be looked at again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wake(pub Option<Timestamp>);

impl Wake {
    pub fn at(&mut self, moment: Timestamp) {
        self.0 = Some(self.0.map_or(moment, |earlier| earlier.min(moment)));
    }
}

/// Brings one service's tasks closer to what it asks for; of a service that is gone, all tasks go.
pub(crate) fn reconcile(
    draft: &mut Draft,
    id: &ServiceId,
    updater: &mut Updater,
    rng: &mut dyn Rng,
) -> Wake {
    let mut wake = Wake::default();
    let Some(service) = draft.service(id).cloned() else {
        updater.forget(id);
        let tasks: Vec<_> = draft.tasks_of_service(id).map(|task| task.id.clone()).collect();
        for task in tasks {
            slot::want(draft, &task, TaskState::Remove);
        }
        return wake;
    };
    match service.spec.mode {
        ServiceMode::Replicated(mode) => {
            replicated::reconcile(draft, &service, mode.replicas.unwrap_or(1), rng);
        }
        ServiceMode::Global(_) => global::reconcile(draft, &service, rng),
        ServiceMode::ReplicatedJob(job) => jobs::reconcile_replicated(draft, &service, job, rng),
        ServiceMode::GlobalJob(_) => jobs::reconcile_global(draft, &service, rng),
    }
    if matches!(service.spec.mode, ServiceMode::Replicated(_) | ServiceMode::Global(_)) {
        updater.step(draft, id, &mut wake, rng);
    }
    restart::start_waiting(draft, id, &mut wake);
    reaper::trim_history(draft, id);
    wake
}
