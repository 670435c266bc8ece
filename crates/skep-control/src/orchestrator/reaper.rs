use skep_types::{ServiceId, TaskState};

use crate::Draft;

const DEFAULT_HISTORY: i64 = 5;

/// Bounds how many tasks of one slot are kept, ended ones and the live one together.
///
/// Tasks that are not wanted and were never on a node go at once. A limit on restart attempts keeps
/// at least one task more than that, because the attempts are counted from them.
pub(crate) fn trim_history(draft: &mut Draft, id: &ServiceId) {
    let limit = draft
        .cluster()
        .and_then(|cluster| cluster.spec.orchestration.task_history_retention_limit)
        .unwrap_or(DEFAULT_HISTORY);
    for slot in draft.slots(id).values() {
        let policy = slot.last().and_then(|newest| newest.spec.restart_policy.as_ref());
        let attempts = policy.and_then(|policy| policy.max_attempts).filter(|max| *max > 0);
        let keep = match (usize::try_from(limit), attempts) {
            (Err(_), _) => usize::MAX,
            (Ok(_), Some(max)) => usize::try_from(max).unwrap_or(usize::MAX).saturating_add(1),
            (Ok(limit), None) => limit,
        };
        let mut surplus = slot.len().saturating_sub(keep);
        for task in slot {
            let unwanted = task.desired_state >= TaskState::Shutdown;
            let never_placed = task.status.state < TaskState::Assigned;
            let ended = task.status.state.is_terminal();
            if unwanted && (never_placed || (ended && surplus > 0)) {
                draft.remove(task.id.clone());
                surplus = surplus.saturating_sub(1);
            }
        }
    }
}
