//! Marks nodes whose agents fell silent.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use skep_control::Action;
use skep_types::{Node, NodeId, NodeState};
use tokio_util::sync::CancellationToken;

use super::{Pulse, Sessions};
use crate::logs::LogBroker;
use crate::store::{StoreCell, WriteError, Writer};

/// A new leader waits this much longer for agents to find it.
const TAKEOVER_FACTOR: u32 = 2;
/// How often the watchdog wakes to see that it still does.
const TICK: Duration = Duration::from_millis(250);
/// If it wakes this much too late, the manager itself stood still (a suspended host, no processor
/// time), and the beats of that time are yet to be read.
const STALL: Duration = Duration::from_millis(500);

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
    let deadline = Instant::now() + Pulse::of(&store).limit * TAKEOVER_FACTOR;
    for node in store.nodes().filter(|node| node.status.state == NodeState::Unknown) {
        sessions.expect(node.id.clone(), deadline);
    }
    Ok(())
}

/// Writes DOWN for nodes that missed their deadline, until `stop` or until writing fails.
pub(crate) async fn run(
    sessions: &Sessions,
    logs: &LogBroker,
    writer: &Writer,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    loop {
        let now = Instant::now();
        let tick = now + TICK;
        let wake = sessions.next_deadline().map_or(tick, |deadline| deadline.clamp(now, tick));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        let late = Instant::now().saturating_duration_since(wake);
        if late >= STALL {
            tracing::warn!(?late, "this manager stood still, giving all nodes more time");
            sessions.excuse(late);
            continue;
        }
        let silent = sessions.expire(Instant::now());
        for node in &silent {
            // Its connection may look alive for a long time yet.
            logs.lost(node);
        }
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
