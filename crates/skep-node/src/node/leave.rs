use skep_manager::NodeFilter;
use skep_types::{NodeRole, NodeState};

use super::SwarmNode;
use super::member::Member;
use super::slot::Slot;
use crate::NodeError;
use crate::state::{Phase, State};

/// Docker's words about managers that leave.
const UNREADABLE: &str = "You are attempting to leave the swarm on a node whose state cannot be read; what it knows is lost if it leaves. Use `--force` to suppress this message. ";
const LEAVING: &str =
    "You are attempting to leave the swarm on a node that is participating as a manager. ";
const LAST: &str = "Removing the last manager erases all current state of the swarm. Use `--force` to \
                    ignore this message. ";
const CONSENSUS: &str = "Doing so may lose the consensus of your cluster. ";
const RESTORE: &str = "The only way to restore a swarm that has lost consensus is to reinitialize it \
                       with `--force-new-cluster`. Use `--force` to suppress this message.";
const LOCKED: &str = "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore \
                      this message.";

impl SwarmNode {
    /// Leaves; tasks are stopped and removed and all swarm state is deleted.
    ///
    /// # Errors
    /// [`NodeError::LeaveNeedsForce`] on a manager without `force`: nothing was done. Others: the host
    /// has stopped being a member, but some of its state is left; leaving again, or the next start,
    /// goes on.
    pub async fn leave(&self, force: bool) -> Result<(), NodeError> {
        let _change = self.change.lock().await;
        let state = match self.slot() {
            Slot::Inactive | Slot::Pending => return Err(NodeError::NotInSwarm),
            Slot::Locked(_) if !force => return Err(NodeError::LeaveNeedsForce(LOCKED.to_owned())),
            Slot::Active(member) => {
                if !force && let Some(warning) = warning(&member).await {
                    return Err(NodeError::LeaveNeedsForce(warning));
                }
                Some(member.state.clone())
            }
            // Nobody knows what would be lost.
            Slot::Failed { state: None, error } if !force => {
                return Err(NodeError::LeaveNeedsForce(format!("{UNREADABLE}{error}")));
            }
            Slot::Locked(state) => Some(state),
            Slot::Failed { state, .. } => state,
        };
        if let Some(state) = state.clone() {
            let leaving = State { phase: Phase::Leaving, ..state };
            self.on_disk(move |folder| folder.store(&leaving)).await?;
        }
        if let Slot::Active(member) = self.slot() {
            member.stop().await;
        }
        match self.erase().await {
            Ok(()) => {
                self.put(Slot::Inactive);
                Ok(())
            }
            Err(error) => {
                self.put(Slot::Failed { state, error: skep_types::report(&error) });
                Err(error)
            }
        }
    }
}

/// What speaks against a member's leaving without force.
async fn warning(member: &Member) -> Option<String> {
    if !member.is_manager() {
        return None;
    }
    let Ok(control) = member.control() else {
        return Some(format!("{LEAVING}{CONSENSUS}{RESTORE}"));
    };
    let managers = NodeFilter { roles: vec![NodeRole::Manager], ..NodeFilter::default() };
    let Ok(managers) = control.list_nodes(&managers).await else {
        return Some(format!("{LEAVING}{CONSENSUS}{RESTORE}"));
    };
    let ready = managers.iter().filter(|node| node.status.state == NodeState::Ready).count();
    let left = ready.saturating_sub(1);
    if managers.len() <= 1 {
        return Some(format!("{LEAVING}{LAST}"));
    }
    if left <= managers.len() / 2 {
        let total = managers.len();
        return Some(format!(
            "{LEAVING}Removing this node leaves {left} managers out of {total}. Without a Raft quorum \
             your swarm will be inaccessible. {RESTORE}"
        ));
    }
    Some(format!("{LEAVING}{RESTORE}"))
}
