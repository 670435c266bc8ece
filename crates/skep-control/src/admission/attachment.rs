use skep_types::{
    NetworkAttachmentConfig, NetworkAttachmentSpec, NodeId, Task, TaskId, TaskSpec, TaskState,
    Timestamp,
};

use super::{ControlError, network};
use crate::{Action, Draft, Rng, Store, new_id};

/// A container outside any service asks for addresses on an attachable network: a task on its node
/// that holds them. `config.target` is the network's id or name.
///
/// # Errors
/// `NotFound` for an unknown network or node, `PermissionDenied` for one that is not attachable.
pub fn attach_network(
    store: &Store,
    node: &NodeId,
    mut config: NetworkAttachmentConfig,
    container_id: String,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<(TaskId, Vec<Action>), ControlError> {
    // It may have been removed since it was asked who calls.
    if store.node(node).is_none() {
        return Err(ControlError::not_found(format!("node {node} not found")));
    }
    let target = (store.find_network(&config.target))
        .ok_or_else(|| ControlError::not_found(format!("network {} not found", config.target)))?;
    if !target.spec.attachable && !network::is_predefined(target) {
        return Err(ControlError::denied(format!(
            "network {} not manually attachable",
            target.spec.annotations.name
        )));
    }
    config.target = target.id.to_string();
    let id: TaskId = new_id(rng);
    let mut task = Task {
        id: id.clone(),
        node_id: node.clone(),
        desired_state: TaskState::Running,
        spec: TaskSpec {
            network_attachment_spec: Some(NetworkAttachmentSpec { container_id }),
            networks: vec![config],
            ..TaskSpec::default()
        },
        ..Task::default()
    };
    task.status.timestamp = now;
    task.status.message = "created".to_owned();
    let mut draft = Draft::new(store, now);
    draft.put(task);
    Ok((id, draft.finish()))
}

/// Gives up what [`attach_network`] gave.
///
/// # Errors
/// `InvalidArgument` for an empty id, `NotFound` for an unknown one, `PermissionDenied` for another
/// node's.
pub fn detach_network(
    store: &Store,
    node: &NodeId,
    attachment: &TaskId,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    if attachment.is_empty() {
        return Err(ControlError::invalid("invalid argument: no attachment id"));
    }
    let task = (store.task(attachment))
        .filter(|task| task.spec.network_attachment_spec.is_some())
        .ok_or_else(|| ControlError::not_found(format!("attachment {attachment} not found")))?;
    if task.node_id != *node {
        return Err(ControlError::denied(format!(
            "attachment {attachment} doesn't belong to this node"
        )));
    }
    let mut draft = Draft::new(store, now);
    draft.remove(attachment.clone());
    Ok(draft.finish())
}
