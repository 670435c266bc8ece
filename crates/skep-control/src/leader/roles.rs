use skep_types::{NodeId, NodeRole};

use crate::Draft;

/// A node's role follows the wish in its spec: up at once, down only when the node is no longer a
/// member of raft (its `manager_status` is gone), which is the business of raft's owner.
pub(super) fn follow_wishes(draft: &mut Draft) {
    let changes: Vec<(NodeId, NodeRole)> = draft
        .nodes()
        .filter(|node| node.spec.role != node.role)
        .filter(|node| node.spec.role == NodeRole::Manager || node.manager_status.is_none())
        .map(|node| (node.id.clone(), node.spec.role))
        .collect();
    for (id, role) in changes {
        draft.node_mut(&id, |node| node.role = role);
    }
}
