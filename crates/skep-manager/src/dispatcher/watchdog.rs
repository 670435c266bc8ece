//! Marks nodes whose agents fell silent.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use skep_control::{Action, Store};
use skep_types::{Node, NodeId, NodeState};
use tokio_util::sync::CancellationToken;

use super::{Pulse, Sessions};
use crate::shared::Shared;
use crate::store::{StoreCell, WriteError, Writer};

/// A new leader waits this much longer for agents to find it.
const TAKEOVER_FACTOR: u32 = 2;
/// How often the watchdog wakes to see that it still does.
const TICK: Duration = Duration::from_millis(250);
/// If it wakes this much too late, the manager itself stood still (a suspended host, no processor
/// time), and the beats of that time are yet to be read.
const STALL: Duration = Duration::from_millis(500);

/// At the start of leadership: every node that was alive is unknown until it registers here. All are
/// expected to do so within a limit, but for `own`, this manager's node: its agent may not have begun
/// (see [`run`]).
pub(crate) async fn take_over(
    sessions: &Sessions,
    cell: &StoreCell,
    writer: &Writer,
    own: &NodeId,
) -> Result<(), WriteError> {
    let open = sessions.clone();
    let written = writer.write(move |store, _| {
        // Who has a session already has registered here.
        let alive = |node: &&std::sync::Arc<Node>| {
            matches!(node.status.state, NodeState::Ready | NodeState::Disconnected)
                && !open.is_open(&node.id)
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
    let deadline = deadline(&store);
    let unknown = store.nodes().filter(|node| node.status.state == NodeState::Unknown);
    for node in unknown.filter(|node| node.id != *own) {
        sessions.expect(node.id.clone(), deadline);
    }
    Ok(())
}

/// Until when a node that may speak from now on has to have done so.
fn deadline(store: &Store) -> Instant {
    Instant::now() + Pulse::of(store).limit * TAKEOVER_FACTOR
}

/// Writes DOWN for nodes that missed their deadline, until `stop` or until writing fails.
pub(crate) async fn run(
    shared: &Shared,
    writer: &Writer,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    let Shared { sessions, logs, .. } = shared;
    let mut own_agent = shared.own_agent.subscribe();
    let mut waits_for_own = true;
    loop {
        let now = Instant::now();
        let tick = now + TICK;
        let wake = sessions.next_deadline().map_or(tick, |deadline| deadline.clamp(now, tick));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Fails only without a sender, which is ours too.
            _ = async { own_agent.wait_for(|started| *started).await.is_ok() }, if waits_for_own => {
                waits_for_own = false;
                sessions.expect(shared.node_id.clone(), deadline(&shared.read()));
                continue;
            }
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
            mark_down(sessions, writer, silent).await?;
        }
    }
}

async fn mark_down(
    sessions: &Sessions,
    writer: &Writer,
    silent: Vec<NodeId>,
) -> Result<(), WriteError> {
    let sessions = sessions.clone();
    let written =
        writer.write(move |store, _| Ok::<_, Infallible>((down(&sessions, store, &silent), ())));
    written.await?.map(|_| ()).unwrap_or_else(|never| match never {});
    Ok(())
}

/// Those that are still silent now that the write has its turn: a node may have come back meanwhile, its
/// registration may be before this write, and no beat would take DOWN back.
fn down(sessions: &Sessions, store: &Store, silent: &[NodeId]) -> Vec<Action> {
    let mut actions = Vec::new();
    for id in silent.iter().filter(|id| !sessions.is_open(id)) {
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
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{SessionId, Timestamp};

    #[test]
    fn a_node_that_came_back_before_its_turn_is_not_down() {
        let mut store = Store::default();
        let node = |id: &str| {
            let mut node = Node { id: id.into(), ..Node::default() };
            node.status.state = NodeState::Ready;
            Action::Create(node.into())
        };
        store.apply(1, Timestamp::ZERO, vec![node("back"), node("silent")]).unwrap();
        let (sessions, start) = (Sessions::new(), Instant::now());
        let limit = Duration::from_secs(6);
        let open = |id: &str, at| {
            sessions.open(&id.into(), "", SessionId::from("s"), at, limit).unwrap();
        };
        open("back", start);
        open("silent", start);
        let silent = sessions.expire(start + limit);
        assert_eq!(silent.len(), 2);
        open("back", start + limit);
        let actions = down(&sessions, &store, &silent);
        store.apply(2, Timestamp::ZERO, actions).unwrap();
        let state = |id: &str| store.node(&id.into()).unwrap().status.state;
        assert_eq!((state("back"), state("silent")), (NodeState::Ready, NodeState::Down));
    }
}
