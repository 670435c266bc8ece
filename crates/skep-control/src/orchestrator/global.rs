use std::collections::BTreeSet;

use skep_types::{Node, NodeAvailability, NodeId, NodeMembership, NodeState, Service, TaskState};

use super::new_task::{self, running_state};
use super::restart;
use super::slot::{has_wanted, is_wanted, want};
use crate::scheduler::constraint;
use crate::slots::SlotKey;
use crate::{Draft, Rng};

/// One task on every node that satisfies the constraints and takes tasks.
pub(crate) fn reconcile(draft: &mut Draft, service: &Service, rng: &mut dyn Rng) {
    end_on_lost_nodes(draft, service);
    let homes: Vec<(NodeId, bool)> = draft
        .nodes()
        .filter(|node| is_home(service, node))
        .map(|node| (node.id.clone(), node.spec.availability == NodeAvailability::Active))
        .collect();
    let slots = draft.slots(&service.id);
    for (node, takes_new) in homes {
        let key = SlotKey::Node(node);
        let slot = slots.get(&key).map_or(&[][..], Vec::as_slice);
        if has_wanted(slot) {
            restart::tend(draft, service, &key, slot, rng);
        } else if takes_new && restart::should_restart(service, slot) {
            new_task::create(draft, service, &key, running_state(service), rng);
        }
    }
}

/// Whether the service belongs on the node: it is there, not drained, and fits.
pub(crate) fn is_home(service: &Service, node: &Node) -> bool {
    let placement = service.spec.task_template.placement.as_ref();
    node.spec.membership == NodeMembership::Accepted
        && node.spec.availability != NodeAvailability::Drain
        && !matches!(node.status.state, NodeState::Down)
        && placement.is_none_or(|placement| constraint::all_fit(&placement.constraints, node))
}

/// Ends tasks on nodes where the service does not belong; of nodes that are gone, all traces.
pub(crate) fn end_on_lost_nodes(draft: &mut Draft, service: &Service) {
    let mut ends = Vec::new();
    let mut homes: BTreeSet<NodeId> = BTreeSet::new();
    for task in draft.tasks_of_service(&service.id) {
        if homes.contains(&task.node_id) {
            continue;
        }
        match draft.node(&task.node_id) {
            None => ends.push((task.id.clone(), TaskState::Remove)),
            Some(node) if is_home(service, node) => {
                homes.insert(node.id.clone());
            }
            Some(_) if is_wanted(task) && task.status.state != TaskState::Complete => {
                ends.push((task.id.clone(), TaskState::Shutdown));
            }
            Some(_) => {}
        }
    }
    for (task, state) in ends {
        want(draft, &task, state);
    }
}
