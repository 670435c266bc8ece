use skep_agent::Link;
use skep_manager::NodeFilter;
use skep_types::NodeRole;

use super::SwarmNode;
use super::member::Member;
use super::slot::Slot;
use crate::{LocalNodeState, NotManager, RemoteManager, SwarmInfo};

/// What a user of a node reads that is none any more.
const EXPELLED: &str = "this node was removed from the swarm: its managers refuse it, and its tasks were ended here. \
    Run \"docker swarm leave\" on it, and \"docker swarm join\" if it shall come back";

impl SwarmNode {
    /// The Swarm section of `docker info`, as of now.
    pub async fn info(&self) -> SwarmInfo {
        match self.slot() {
            Slot::Inactive => SwarmInfo::default(),
            Slot::Pending => {
                SwarmInfo { local_state: LocalNodeState::Pending, ..SwarmInfo::default() }
            }
            Slot::Locked(state) => SwarmInfo {
                local_state: LocalNodeState::Locked,
                node_addr: state.advertise_addr.ip().to_string(),
                error: NotManager::Locked.to_string(),
                ..SwarmInfo::default()
            },
            Slot::Failed { state, error } => SwarmInfo {
                local_state: LocalNodeState::Error,
                node_addr: state
                    .map_or_else(String::new, |state| state.advertise_addr.ip().to_string()),
                error,
                ..SwarmInfo::default()
            },
            Slot::Active(member) => of_member(&member).await,
        }
    }
}

async fn of_member(member: &Member) -> SwarmInfo {
    let view = member.view();
    let mut info = SwarmInfo {
        node_id: member.node_id().clone(),
        node_addr: member.state.advertise_addr.ip().to_string(),
        local_state: LocalNodeState::Active,
        ..SwarmInfo::default()
    };
    if let Some(view) = &view {
        let managers = view.managers.iter().map(|manager| RemoteManager {
            node_id: manager.node_id.clone(),
            addr: manager.addr.clone(),
        });
        info.remote_managers = managers.collect();
        info.remote_managers.sort();
    }
    if let Some(failure) = member.failure() {
        info.local_state = LocalNodeState::Error;
        info.error = failure;
    }
    if !member.is_manager() {
        if view.is_none() {
            info.local_state = LocalNodeState::Pending;
        }
        match member.link() {
            Link::Up { .. } => {}
            Link::Down { reason } => info.error = reason,
            Link::Expelled => {
                info.local_state = LocalNodeState::Error;
                info.error = EXPELLED.to_owned();
            }
        }
        return info;
    }
    match member.control() {
        Ok(control) => {
            info.control_available = true;
            if let Ok(nodes) = control.list_nodes(&NodeFilter::default()).await {
                let managers =
                    nodes.iter().filter(|node| node.spec.role == NodeRole::Manager).count();
                info.nodes = u64::try_from(nodes.len()).ok();
                info.managers = u64::try_from(managers).ok();
            }
            info.cluster = control.cluster().await.ok();
        }
        Err(error) if info.error.is_empty() => {
            info.control_available = true;
            info.error = error.to_string();
        }
        Err(_) => {}
    }
    info
}
