//! Chooses a node for every task that waits for one, and gives it its addresses there.
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

use skep_types::{NodeId, ServiceId, Task, TaskState, Version};

use crate::Draft;
use crate::allocator::{Allocator, Room, no_address};
use filter::Failure;
use nodes::Nodes;

const ASSIGNED: &str = "scheduler assigned task to node";
const CONFIRMED: &str = "scheduler confirmed task can run on preassigned node";

/// Assigns what can be assigned; the others say in their status why not.
pub(crate) fn schedule(draft: &mut Draft, allocator: &mut Allocator) {
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
    let mut room = Room::new(allocator, draft);
    for task in placed {
        confirm(draft, &mut nodes, &mut room, &task);
    }
    for tasks in groups.into_values() {
        group::place(draft, &mut nodes, &mut room, tasks);
    }
}

/// A task that was made for its node only needs the node to be able to take it.
fn confirm(draft: &mut Draft, nodes: &mut Nodes, room: &mut Room<'_>, task: &Task) {
    let Some(node) = nodes.get(&task.node_id) else { return };
    if task.spec.network_attachment_spec.is_some() {
        // A container that is there already: all it waits for is its place on the network.
        match room.lacking(&node.node, task) {
            Some(network) => explain(draft, task, no_address(network).to_string()),
            None => assign(draft, nodes, room, task, &task.node_id, ASSIGNED),
        }
        return;
    }
    match filter::first_failure(node, room, task) {
        None => assign(draft, nodes, room, task, &task.node_id, CONFIRMED),
        Some(failure) => explain(draft, task, refusal(&[(failure, 1)])),
    }
}

fn assign(
    draft: &mut Draft,
    nodes: &mut Nodes,
    room: &mut Room<'_>,
    task: &Task,
    node: &NodeId,
    message: &str,
) {
    let Some(info) = nodes.get(node) else { return };
    let attachments = match room.take(draft, &info.node, task) {
        Ok(attachments) => attachments,
        Err(error) => return explain(draft, task, error.to_string()),
    };
    let claims = nodes.claim(node, task);
    let now = draft.now();
    draft.task_mut(&task.id, |task| {
        task.node_id = node.clone();
        task.networks_attachments = attachments;
        task.generic_resources = claims;
        task.status.state = TaskState::Assigned;
        task.status.timestamp = now;
        task.status.message = message.to_owned();
        task.status.err.clear();
    });
}

/// What the status of a task says that no node can take, from how many nodes fail how, the most
/// frequent failure first.
fn refusal(failures: &[(Failure<'_>, usize)]) -> String {
    // Where addresses are all that lacks, the nodes have no part in it.
    if let [(Failure::Addresses(network), _)] = failures {
        return no_address(network).to_string();
    }
    let texts: Vec<String> = failures.iter().map(|(failure, count)| failure.text(*count)).collect();
    match texts.join("; ") {
        none if none.is_empty() => "no suitable node".to_owned(),
        texts => format!("no suitable node ({texts})"),
    }
}

fn explain(draft: &mut Draft, task: &Task, err: String) {
    if task.status.err != err {
        let now = draft.now();
        draft.task_mut(&task.id, |task| {
            task.status.err = err;
            task.status.timestamp = now;
        });
    }
}
