use std::collections::BTreeMap;

use skep_types::{Nanos, NodeId, NodeState, TaskId, TaskState, Timestamp};

use super::Wake;
use crate::Draft;

/// A node that is down for longer is not waited for.
const ORPHAN_AFTER: Nanos = Nanos::from_secs(24 * 3600);

/// Deletes tasks that nobody needs: wanted removed and not on a node (any more), and attachments that
/// have ended or lost their node.
pub(crate) fn remove_stray_tasks(draft: &mut Draft, attachments: &[TaskId]) {
    let mut strays: Vec<TaskId> = draft
        .removable_tasks()
        .filter(|task| {
            task.status.state < TaskState::Assigned
                || task.status.state.is_terminal()
                || draft.node(&task.node_id).is_none()
        })
        .map(|task| task.id.clone())
        .collect();
    strays.extend(attachments.iter().filter_map(|id| {
        let task = draft.task(id)?;
        let over = task.status.state.is_terminal() || draft.node(&task.node_id).is_none();
        (task.service_id.is_empty() && over).then(|| id.clone())
    }));
    for id in strays {
        draft.remove(id);
    }
}

/// Gives up the tasks of nodes that have been down for a day: only then may their addresses and slots
/// be held to be free. `down_since` says since when each node that is down has been.
pub(crate) fn orphan_lost_tasks(
    draft: &mut Draft,
    down_since: &BTreeMap<NodeId, Timestamp>,
    wake: &mut Wake,
) {
    let now = draft.now();
    for (node, since) in down_since {
        let lost_at = *since + ORPHAN_AFTER;
        if draft.node(node).is_none_or(|node| node.status.state != NodeState::Down) {
            continue;
        }
        if now < lost_at {
            wake.at(lost_at);
            continue;
        }
        let tasks: Vec<TaskId> = draft
            .tasks_of_node(node)
            .filter(|task| (TaskState::Assigned..=TaskState::Running).contains(&task.status.state))
            .map(|task| task.id.clone())
            .collect();
        for id in tasks {
            draft.task_mut(&id, |task| {
                task.status.state = TaskState::Orphaned;
                task.status.timestamp = now;
                task.status.applied_at = Some(now);
                task.status.message = "task's node has been down for 24 hours".to_owned();
            });
        }
    }
}
