//! What a service's tasks are instances of.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{NodeId, ServiceId, Task, TaskId, TaskState, Timestamp};

use crate::Store;

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

/// Those of one service.
pub(crate) type Slots = BTreeMap<SlotKey, Slot>;

/// A service's slots, worked out anew: see [`Draft::slots`](crate::Draft::slots).
pub(crate) fn slots(store: &Store, id: &ServiceId) -> Slots {
    let mut slots = Slots::new();
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
pub(crate) fn age(task: &Task) -> (Timestamp, &TaskId) {
    (task.meta.created_at, &task.id)
}
