use std::sync::Arc;

use skep_types::{Task, TaskId, TaskState};

use crate::Draft;

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
