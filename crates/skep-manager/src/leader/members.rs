use std::collections::BTreeMap;
use std::convert::Infallible;

use skep_control::{Action, Store};
use skep_types::{ManagerStatus, Node, NodeId, Reachability};
use tokio_util::sync::CancellationToken;

use crate::raft::{Member, Raft, RaftId};
use crate::store::{StoreCell, WriteError, Writer};

type Members = BTreeMap<NodeId, (RaftId, Member)>;

/// Keeps every node's manager status in line with raft's membership.
pub(super) async fn run(
    raft: &Raft,
    leader: RaftId,
    cell: &StoreCell,
    writer: &Writer,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    let mut metrics = raft.server_metrics();
    // A node's object may appear after its membership.
    let mut index = cell.index();
    loop {
        let members: Members = metrics
            .borrow_and_update()
            .membership_config
            .nodes()
            .map(|(id, member)| (member.node_id.clone(), (*id, member.clone())))
            .collect();
        index.borrow_and_update();
        if !corrections(&cell.read(), &members, leader).is_empty() {
            let written = writer.write(move |store, _| {
                Ok::<_, Infallible>((corrections(store, &members, leader), ()))
            });
            written.await?.map(|_| ()).unwrap_or_else(|never| match never {});
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = metrics.changed() => if changed.is_err() { return Err(WriteError::Stopped) },
            changed = index.changed() => if changed.is_err() { return Err(WriteError::Stopped) },
        }
    }
}

fn corrections(store: &Store, members: &Members, leader: RaftId) -> Vec<Action> {
    let wanted = |node: &Node| {
        members.get(&node.id).map(|(id, member)| ManagerStatus {
            leader: *id == leader,
            reachability: Reachability::Reachable,
            addr: member.addr.clone(),
            raft_id: *id,
        })
    };
    let differs = |node: &&std::sync::Arc<Node>| node.manager_status != wanted(node);
    let correct = |node: &std::sync::Arc<Node>| {
        let mut node = Node::clone(node);
        node.manager_status = wanted(&node);
        Action::Update(node.into())
    };
    store.nodes().filter(differs).map(correct).collect()
}
