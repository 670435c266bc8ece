//! Rolling updates: slot by slot from tasks of an old spec to tasks of the present one.
//!
//! Progress is read from the tasks; what an [`UpdateRun`] notes besides (when a slot was done, which
//! failed) only keeps evidence that history may drop, and is gathered again by a new leader.

mod progress;
mod status;

use std::collections::BTreeMap;

use skep_types::{
    FailureAction, Nanos, RestartCondition, Service, ServiceId, Task, TaskId, TaskState, Timestamp,
    UpdateConfig, UpdateOrder, UpdateState, defaults,
};

use super::Wake;
use super::new_task::{self, running_state};
use super::restart::observed_at;
use super::slot::want;
use crate::slots::{Slot, SlotKey};
use crate::{Draft, Rng};
use progress::{Progress, look, needs_update};
use status::{begin, complete, is_rollback, started_at, stop};

/// What is noted about one run of an update or rollback.
#[derive(Debug, Default)]
struct UpdateRun {
    started_at: Timestamp,
    /// When a slot's new task ran for the first time, or failed to.
    attempted: BTreeMap<SlotKey, Timestamp>,
    /// Since when tasks run.
    running: BTreeMap<TaskId, Timestamp>,
    /// Slots whose new task failed while it was watched.
    failed: BTreeMap<SlotKey, TaskId>,
}

/// All runs, by service.
#[derive(Debug, Default)]
pub(crate) struct Updater {
    runs: BTreeMap<ServiceId, UpdateRun>,
}

impl Updater {
    pub fn forget(&mut self, id: &ServiceId) {
        self.runs.remove(id);
    }

    pub fn step(&mut self, draft: &mut Draft, id: &ServiceId, wake: &mut Wake, rng: &mut dyn Rng) {
        let Some(service) = draft.service(id).cloned() else { return };
        let state = service.update_status.as_ref().map(|status| status.state);
        if matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
            self.forget(id);
            return;
        }
        let slots = draft.slots(id);
        let active = matches!(state, Some(UpdateState::Updating | UpdateState::RollbackStarted));
        if !active && !slots.values().any(|slot| needs_update(draft, &service, slot)) {
            self.forget(id);
            return;
        }
        let mut progress = look(draft, &service, &slots, started_at(&service));
        if !active || started_at(&service).is_none() {
            begin(draft, id, state);
            progress.iter_mut().for_each(|slot| slot.part_of_run = false);
        }
        let Some(service) = draft.service(id).cloned() else { return };
        let started = started_at(&service).unwrap_or(draft.now());
        let run = self.runs.entry(id.clone()).or_default();
        if run.started_at != started {
            *run = UpdateRun { started_at: started, ..UpdateRun::default() };
        }
        let config = config_of(&service);
        let monitor = config.monitor.unwrap_or(defaults::UPDATE_MONITOR);
        run.note(&service, &slots, monitor);
        if let Some(culprit) = run.too_many_failures(&progress, &config) {
            let rolls_back = stop(draft, &service, &config, &culprit);
            if rolls_back {
                // The rollback itself begins at once.
                wake.at(draft.now());
            }
            return;
        }
        run.advance(draft, &service, &config, progress, wake, rng);
        if run.is_complete(draft, &service, monitor, wake) {
            complete(draft, id);
        }
    }
}

impl UpdateRun {
    fn note(&mut self, service: &Service, slots: &BTreeMap<SlotKey, Slot>, monitor: Nanos) {
        for (key, slot) in slots {
            let new = slot.iter().filter(|task| {
                task.meta.created_at >= self.started_at && task.spec_version == service.spec_version
            });
            for task in new {
                let state = task.status.state;
                if state < TaskState::Running {
                    continue;
                }
                let at = observed_at(task);
                self.attempted.entry(key.clone()).or_insert(at);
                if state == TaskState::Running {
                    self.running.entry(task.id.clone()).or_insert(at);
                } else if is_failure(task) {
                    let since = self.running.get(&task.id);
                    if since.is_none_or(|since| at - *since <= monitor) {
                        self.failed.entry(key.clone()).or_insert_with(|| task.id.clone());
                    }
                }
            }
        }
    }

    /// The task that made it too many, if so.
    fn too_many_failures(&self, progress: &[Progress], config: &UpdateConfig) -> Option<TaskId> {
        if config.failure_action == FailureAction::Continue {
            return None;
        }
        let culprit = self.failed.values().next_back()?;
        let total = progress.iter().filter(|slot| slot.needs_update || slot.part_of_run).count();
        #[expect(clippy::cast_precision_loss, reason = "a ratio of task counts")]
        let ratio = self.failed.len() as f32 / total.max(1) as f32;
        (ratio > config.max_failure_ratio).then(|| culprit.clone())
    }

    /// Takes the next slots in hand, as many as the configuration allows.
    fn advance(
        &self,
        draft: &mut Draft,
        service: &Service,
        config: &UpdateConfig,
        progress: Vec<Progress>,
        wake: &mut Wake,
        rng: &mut dyn Rng,
    ) {
        let start_first = config.order == UpdateOrder::StartFirst;
        let mut busy = 0;
        let mut next = Vec::new();
        for slot in progress {
            let replaced_by_running =
                slot.new.iter().any(|task| task.status.state == TaskState::Running);
            if !slot.new.is_empty() && (!start_first || replaced_by_running) {
                for task in &slot.old {
                    want(draft, &task.id, TaskState::Shutdown);
                }
            }
            match self.attempted.get(&slot.key) {
                Some(at) => {
                    let free_at = *at + config.delay;
                    if slot.part_of_run && free_at > draft.now() {
                        busy += 1;
                        wake.at(free_at);
                    }
                }
                None if !slot.new.is_empty() => busy += usize::from(slot.part_of_run),
                None if slot.needs_update => next.push(slot),
                None => {}
            }
        }
        let parallelism = match usize::try_from(config.parallelism) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(parallelism) => parallelism,
        };
        for slot in next.into_iter().take(parallelism.saturating_sub(busy)) {
            replace(draft, service, &slot, start_first, rng);
        }
    }

    /// Whether nothing is left to do and the last new tasks have been watched long enough.
    fn is_complete(
        &self,
        draft: &Draft,
        service: &Service,
        monitor: Nanos,
        wake: &mut Wake,
    ) -> bool {
        let slots = draft.slots(&service.id);
        let progress = look(draft, service, &slots, Some(self.started_at));
        let left = progress.iter().any(|slot| {
            let attempted = self.attempted.contains_key(&slot.key);
            (slot.needs_update || slot.part_of_run) && !attempted
        });
        if left {
            return false;
        }
        let watched_until =
            self.attempted.values().max().map_or(draft.now(), |latest| *latest + monitor);
        if watched_until > draft.now() {
            wake.at(watched_until);
            return false;
        }
        true
    }
}

/// Puts a task of the present spec into a slot. Unless the new one shall start first, the old ones stop
/// now and the new one gets ready meanwhile.
fn replace(
    draft: &mut Draft,
    service: &Service,
    slot: &Progress,
    start_first: bool,
    rng: &mut dyn Rng,
) {
    let nothing_to_stop = slot.old.iter().all(|task| task.status.state < TaskState::Assigned);
    let desired =
        if start_first || nothing_to_stop { running_state(service) } else { TaskState::Ready };
    if !start_first || nothing_to_stop {
        for task in &slot.old {
            want(draft, &task.id, TaskState::Shutdown);
        }
    }
    new_task::create(draft, service, &slot.key, desired, rng);
}

fn config_of(service: &Service) -> UpdateConfig {
    let config = if is_rollback(service) {
        &service.spec.rollback_config
    } else {
        &service.spec.update_config
    };
    config.clone().unwrap_or(UpdateConfig {
        parallelism: defaults::UPDATE_PARALLELISM,
        ..UpdateConfig::default()
    })
}

/// Whether the task ended in a way that its service does not want.
fn is_failure(task: &Task) -> bool {
    let any = task.spec.restart_policy.as_ref().map(|policy| policy.condition);
    match task.status.state {
        TaskState::Failed | TaskState::Rejected => true,
        TaskState::Complete => any.unwrap_or_default() == RestartCondition::Any,
        _ => false,
    }
}
