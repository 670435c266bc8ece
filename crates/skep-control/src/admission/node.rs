use skep_types::{
    Cluster, Node, NodeId, NodeMembership, NodeRole, NodeSpec, NodeState, TaskState, Timestamp,
    Version,
};

use super::{ControlError, check_version};
use crate::{Action, Draft, Store};

/// Changes what the user wants of a node. Its role follows later: a promotion in the leader's next
/// step, a demotion once the node has left raft.
///
/// # Errors
/// `NotFound`, `Conflict` on an old version, `FailedPrecondition` for the demotion of the last manager.
/// Whether a demotion keeps the quorum is for the owner of raft to check.
pub fn update_node(
    store: &Store,
    id: &NodeId,
    version: Version,
    spec: NodeSpec,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let old = find(store, id)?;
    check_version(&old.meta, version)?;
    if old.spec.role == NodeRole::Manager && spec.role == NodeRole::Worker {
        let managers = (store.nodes())
            .filter(|n| n.spec.role == NodeRole::Manager)
            .filter(|n| n.spec.membership == NodeMembership::Accepted)
            .count();
        if managers <= 1 {
            return Err(ControlError::precondition(
                "attempting to demote the last manager of the swarm",
            ));
        }
    }
    let mut draft = Draft::new(store, now);
    draft.node_mut(id, |node| node.spec = spec);
    Ok(draft.finish())
}

/// Removes a node and gives up its tasks. Its certificates are refused until `cert_expiry`, when
/// the last of them has ended, and the
/// keys of the networks that it knows become exposed (see [`super::network_keys_exposed`]).
///
/// # Errors
/// `NotFound`; `FailedPrecondition` for a manager, and for a node that is ready unless `force`d.
pub fn remove_node(
    store: &Store,
    id: &NodeId,
    force: bool,
    cert_expiry: Timestamp,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let node = find(store, id)?;
    if node.manager_status.is_some() {
        return Err(ControlError::precondition(format!(
            "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted \
             to worker before removal"
        )));
    }
    if !force && node.status.state == NodeState::Ready {
        return Err(ControlError::precondition(format!(
            "node {id} is not down and can't be removed"
        )));
    }
    let mut draft = Draft::new(store, now);
    if let Some(cluster) = store.cluster() {
        let mut cluster = Cluster::clone(cluster);
        cluster.blacklisted_certificates.retain(|_, until| *until > now);
        cluster.blacklisted_certificates.insert(id.to_string(), cert_expiry);
        super::keys::expose_network_keys(&mut cluster);
        draft.put(cluster);
    }
    for task in store.tasks_of_node(id) {
        if (TaskState::Assigned..=TaskState::Running).contains(&task.status.state) {
            draft.task_mut(&task.id, |task| {
                task.status.state = TaskState::Orphaned;
                task.status.timestamp = now;
                task.status.message = "Task belonged to a node that has been deleted".to_owned();
            });
        }
    }
    draft.remove(id.clone());
    Ok(draft.finish())
}

fn find<'a>(store: &'a Store, id: &NodeId) -> Result<&'a Node, ControlError> {
    store
        .node(id)
        .map(AsRef::as_ref)
        .ok_or_else(|| ControlError::not_found(format!("node {id} not found")))
}
