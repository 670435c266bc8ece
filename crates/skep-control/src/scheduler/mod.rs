//! Chooses a node for every task that waits for one.
//!
//! Tasks that ask for the same (same service, same spec) are placed as a group: nodes are filtered
//! once, then each task goes to the node with the fewest tasks of the service, then with the fewest
//! tasks at all, evenly over the values of the user's spread preferences.

pub(crate) mod constraint;
mod filter;
mod generic;
mod group;
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{ServiceId, Task, TaskState, Version};

use crate::Draft;
use nodes::Nodes;

/// Assigns what can be assigned; the others say in their status why not.
pub(crate) fn schedule(draft: &mut Draft) {
    let mut groups: BTreeMap<(ServiceId, Option<Version>), Vec<Arc<Task>>> = BTreeMap::new();
    let mut placed = Vec::new();
    for task in draft.pending_tasks() {
        if task.desired_state > TaskState::Complete {
            continue;
        }
        if task.node_id.is_empty() {
            let key = (task.service_id.clone(), task.spec_version);
            groups.entry(key).or_default().push(Arc::clone(task));
        } else {
            placed.push(Arc::clone(task));
        }
    }
    if groups.is_empty() && placed.is_empty() {
        return;
    }
    let mut nodes = Nodes::new(draft);
    for task in placed {
        confirm(draft, &mut nodes, &task);
    }
    for tasks in groups.into_values() {
        group::place(draft, &mut nodes, tasks);
    }
}

/// A task that was made for its node only needs the node to be able to take it.
fn confirm(draft: &mut Draft, nodes: &mut Nodes, task: &Task) {
    let now = draft.now();
    if task.spec.network_attachment_spec.is_some() {
        draft.task_mut(&task.id, |task| {
            task.status.state = TaskState::Assigned;
            task.status.timestamp = now;
            task.status.message = "scheduler assigned task to node".to_owned();
            task.status.err.clear();
        });
        return;
    }
    let Some(node) = nodes.get(&task.node_id) else { return };
    match filter::first_failure(node, task) {
        None => assign(
            draft,
            nodes,
            task,
            &task.node_id.clone(),
            "scheduler confirmed task can run on preassigned node",
        ),
        Some(failure) => explain(draft, task, &failure.text(1)),
    }
}

fn assign(
    draft: &mut Draft,
    nodes: &mut Nodes,
    task: &Task,
    node: &skep_types::NodeId,
    message: &str,
) {
    let claims = nodes.claim(node, task);
    let now = draft.now();
    draft.task_mut(&task.id, |task| {
        task.node_id = node.clone();
        task.generic_resources = claims;
        task.status.state = TaskState::Assigned;
        task.status.timestamp = now;
        task.status.message = message.to_owned();
        task.status.err.clear();
    });
}

fn explain(draft: &mut Draft, task: &Task, reason: &str) {
    let err = if reason.is_empty() {
        "no suitable node".to_owned()
    } else {
        format!("no suitable node ({reason})")
    };
    if task.status.err != err {
        let now = draft.now();
        draft.task_mut(&task.id, |task| {
            task.status.err = err;
            task.status.timestamp = now;
        });
    }
}
