//! Marks nodes whose agents fell silent.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use skep_control::{Action, Store};
use skep_types::{Node, NodeId, NodeState};
use tokio_util::sync::CancellationToken;

use super::sessions::{GRACE_PERIODS, Sessions};
use crate::store::{StoreCell, WriteError, Writer};

/// Docker's default.
const DEFAULT_PERIOD: Duration = Duration::from_secs(5);
/// A new leader waits this much longer for agents to find it.
const TAKEOVER_FACTOR: u32 = 2;

/// The heartbeat period that the swarm is set to.
pub(crate) fn heartbeat_period(store: &Store) -> Duration {
    let set = store.cluster().map(|c| c.spec.dispatcher.heartbeat_period.to_std());
    set.filter(|period| !period.is_zero()).unwrap_or(DEFAULT_PERIOD)
}

/// At the start of leadership: every node that was alive is unknown until it registers here.
pub(crate) async fn take_over(
    sessions: &Sessions,
    cell: &StoreCell,
    writer: &Writer,
) -> Result<(), WriteError> {
    let written = writer.write(|store, _| {
        let alive = |node: &&std::sync::Arc<Node>| {
            matches!(node.status.state, NodeState::Ready | NodeState::Disconnected)
        };
        let actions = store.nodes().filter(alive).map(|node| {
            let mut node = Node::clone(node);
            node.status.state = NodeState::Unknown;
            node.status.message =
                "Node moved to \"unknown\" state due to leadership change in cluster".to_owned();
            Action::Update(node.into())
        });
        Ok::<_, Infallible>((actions.collect(), ()))
    });
    written.await?.map(|_| ()).unwrap_or_else(|never| match never {});
    let store = cell.read();
    let deadline = Instant::now() + heartbeat_period(&store) * GRACE_PERIODS * TAKEOVER_FACTOR;
    for node in store.nodes().filter(|node| node.status.state == NodeState::Unknown) {
        sessions.expect(node.id.clone(), deadline);
    }
    Ok(())
}

/// Writes DOWN for nodes that missed their deadline, until `stop` or until writing fails.
pub(crate) async fn run(
    sessions: &Sessions,
    writer: &Writer,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    let mut changed = sessions.changed();
    loop {
        changed.borrow_and_update();
        let deadline = sessions.next_deadline();
        let late = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = changed.changed() => continue,
            () = late => {}
        }
        let silent = sessions.expire(Instant::now());
        if !silent.is_empty() {
            mark_down(writer, silent).await?;
        }
    }
}

async fn mark_down(writer: &Writer, silent: Vec<NodeId>) -> Result<(), WriteError> {
    let written = writer.write(move |store, _| {
        let mut actions = Vec::new();
        for id in &silent {
            let Some(node) = store.node(id) else { continue };
            if node.status.state == NodeState::Down {
                continue;
            }
            tracing::warn!(node = %id, from = ?node.status.state, "node is silent, marking it down");
            let mut node = Node::clone(node);
            node.status.state = NodeState::Down;
            node.status.message = "heartbeat failure".to_owned();
            actions.push(Action::Update(node.into()));
        }
        Ok::<_, Infallible>((actions, ()))
    });
    written.await?.map(|_| ()).unwrap_or_else(|never| match never {});
    Ok(())
}
