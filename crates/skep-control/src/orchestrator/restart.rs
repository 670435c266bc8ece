//! Restart policies. Everything is worked out from the tasks themselves, so that a new leader goes on
//! where the old one stopped: a replacement waits with desired state READY, its creation starts its
//! delay, and the attempts are the tasks kept in the slot.
//!
//! One that fails while it waits keeps desired state READY until its delay is over, and only then gets a
//! successor, with a delay of its own. So whatever is refused at once is tried once a delay.

use std::sync::Arc;

use skep_types::{
    Nanos, NodeAvailability, NodeState, RestartCondition, Service, ServiceId, Task, TaskState,
    Timestamp,
};

use super::Wake;
use super::dirty::is_up_to_date;
use super::new_task::{self, running_state};
use super::slot::{is_wanted, want};
use crate::scheduler::constraint;
use crate::slots::{Slot, SlotKey, age};
use crate::{Draft, Rng, Store};

/// A replacement starts after this time even if the old task has not stopped.
const OLD_TASK_WAIT: Nanos = Nanos::from_secs(60);

/// Ends the wanted tasks of a slot that have died or must move, and replaces the newest of them if its
/// policy says so.
pub(crate) fn tend(
    draft: &mut Draft,
    service: &Service,
    key: &SlotKey,
    slot: &[Arc<Task>],
    rng: &mut dyn Rng,
) {
    let Some(newest) = slot.last() else { return };
    for task in slot.iter().filter(|task| is_wanted(task)) {
        if !(has_failed(task) || must_move(draft, service, task)) {
            continue;
        }
        want(draft, &task.id, TaskState::Shutdown);
        if task.id == newest.id && should_restart(service, slot) {
            new_task::create(draft, service, key, TaskState::Ready, rng);
        }
    }
}

/// Whether the task has come to an end that it was not meant to, and its time to be replaced has come.
fn has_failed(task: &Task) -> bool {
    match task.desired_state {
        // Its delay still runs: `start_waiting` ends it.
        TaskState::Ready => false,
        TaskState::Complete if task.status.state == TaskState::Complete => false,
        _ => task.status.state.is_terminal(),
    }
}

/// Whether the task must leave its node: the node is gone, down or drained, or no longer satisfies the
/// constraints. These are the service's, if the task is as the service wants it: a change of placement
/// alone does not reach the task's own spec.
fn must_move(store: &Store, service: &Service, task: &Task) -> bool {
    if task.node_id.is_empty() {
        return false;
    }
    let Some(node) = store.node(&task.node_id) else { return true };
    if node.status.state == NodeState::Down || node.spec.availability == NodeAvailability::Drain {
        return true;
    }
    let spec =
        if is_up_to_date(store, service, task) { &service.spec.task_template } else { &task.spec };
    let constraints = spec.placement.as_ref().map_or(&[][..], |placement| &placement.constraints);
    !constraint::all_fit(constraints, node)
}

/// Whether the newest task of a slot deserves a successor. Judged at the moment of its end, so that
/// the answer does not change later.
pub(crate) fn should_restart(service: &Service, slot: &[Arc<Task>]) -> bool {
    let Some(newest) = slot.last() else { return true };
    let policy = newest.spec.restart_policy.as_ref();
    let mut condition = policy.map_or(RestartCondition::Any, |policy| policy.condition);
    if condition == RestartCondition::Any && running_state(service) == TaskState::Complete {
        condition = RestartCondition::OnFailure;
    }
    match condition {
        RestartCondition::None => return false,
        RestartCondition::OnFailure if newest.status.state == TaskState::Complete => return false,
        RestartCondition::OnFailure | RestartCondition::Any => {}
    }
    let Some(limit) = policy.and_then(|policy| policy.max_attempts).filter(|max| *max > 0) else {
        return true;
    };
    let window = policy.and_then(|policy| policy.window).filter(|window| *window > Nanos(0));
    let ended = observed_at(newest);
    // The first task of its spec is no restart; history keeps one more than the limit.
    let attempts = slot
        .iter()
        .filter(|task| task.spec_version == newest.spec_version)
        .skip(1)
        .filter(|task| window.is_none_or(|window| ended - task.meta.created_at <= window))
        .count();
    u64::try_from(attempts).unwrap_or(u64::MAX) < limit
}

/// When the leader learned of the present state; agents' clocks are not trusted with order.
pub(crate) fn observed_at(task: &Task) -> Timestamp {
    task.status.applied_at.unwrap_or(task.status.timestamp)
}

/// Starts replacements (desired READY) whose delay is over and whose predecessors are gone.
pub(crate) fn start_waiting(draft: &mut Draft, id: &ServiceId, wake: &mut Wake) {
    let Some(service) = draft.service(id).cloned() else { return };
    let slots = draft.slots(id);
    let tasks = slots.values().flat_map(|slot| slot.iter().map(move |task| (task, slot)));
    for (task, slot) in tasks.filter(|(task, _)| task.desired_state == TaskState::Ready) {
        let start = earliest_start(draft, task, slot);
        if start <= draft.now() {
            draft.task_mut(&task.id, |task| task.desired_state = running_state(&service));
        } else {
            wake.at(start);
        }
    }
}

fn earliest_start(store: &Store, task: &Task, slot: &Slot) -> Timestamp {
    let older: Vec<&Arc<Task>> = slot.iter().filter(|other| age(other) < age(task)).collect();
    let after_delay = task.meta.created_at + delay(store, task, older.last().copied());
    let old_lives = older.iter().any(|old| {
        !is_wanted(old)
            && (TaskState::Assigned..=TaskState::Running).contains(&old.status.state)
            && store.node(&old.node_id).is_some_and(|node| node.status.state != NodeState::Down)
    });
    if old_lives { after_delay.max(task.meta.created_at + OLD_TASK_WAIT) } else { after_delay }
}

/// The policy's delay for a restart; none for an update and for a task whose node was drained or lost:
/// such a task has not failed, and nothing is won by waiting.
fn delay(store: &Store, task: &Task, predecessor: Option<&Arc<Task>>) -> Nanos {
    if let Some(old) = predecessor {
        let left = store.node(&old.node_id).is_none_or(|node| {
            node.spec.availability == NodeAvailability::Drain
                || node.status.state == NodeState::Down
        });
        if (left && !old.node_id.is_empty()) || old.spec_version != task.spec_version {
            return Nanos(0);
        }
    }
    task.spec
        .restart_policy
        .as_ref()
        .and_then(|policy| policy.delay)
        .unwrap_or(skep_types::defaults::RESTART_DELAY)
}
