use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{NodeId, ServiceId, Task, TaskId, TaskState};

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
