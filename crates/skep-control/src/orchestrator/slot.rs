use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{
    NodeAvailability, NodeId, NodeState, Service, ServiceId, Task, TaskId, TaskState,
};

use super::dirty::is_up_to_date;

use crate::scheduler::constraint;
use crate::{Draft, Store};

/// What a task is an instance of: a number for replicated services, a node for global ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SlotKey {
    Number(u64),
    Node(NodeId),
}

impl SlotKey {
    pub fn of(task: &Task) -> Self {
        if task.slot != 0 { Self::Number(task.slot) } else { Self::Node(task.node_id.clone()) }
    }
}

/// All tasks of one slot, oldest first, those on their way out (desired REMOVE) left out.
pub(crate) type Slot = Vec<Arc<Task>>;

pub(crate) fn slots(store: &Store, id: &ServiceId) -> BTreeMap<SlotKey, Slot> {
    let mut slots: BTreeMap<SlotKey, Slot> = BTreeMap::new();
    for task in store.tasks_of_service(id) {
        if task.desired_state != TaskState::Remove {
            slots.entry(SlotKey::of(task)).or_default().push(Arc::clone(task));
        }
    }
    for slot in slots.values_mut() {
        slot.sort_by(|a, b| age(a).cmp(&age(b)));
    }
    slots
}

/// Sorts older tasks first.
pub(crate) fn age(task: &Task) -> (skep_types::Timestamp, &TaskId) {
    (task.meta.created_at, &task.id)
}

/// Whether the task is meant to run (or to run to its end).
pub(crate) fn is_wanted(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete
}

pub(crate) fn has_wanted(slot: &[Arc<Task>]) -> bool {
    slot.iter().any(|task| is_wanted(task))
}

/// Raises the desired state; it is never lowered.
pub(crate) fn want(draft: &mut Draft, id: &TaskId, state: TaskState) {
    draft.task_mut(id, |task| task.desired_state = task.desired_state.max(state));
}

/// Whether the task must leave its node: the node is gone, down or drained, or no longer satisfies the
/// constraints. These are the service's, if the task is as the service wants it: a change of placement
/// alone does not reach the task's own spec.
pub(crate) fn must_move(store: &Store, service: &Service, task: &Task) -> bool {
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
