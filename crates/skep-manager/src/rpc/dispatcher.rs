use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use skep_control::{Action, ObjectKey, Store};
use skep_proto::v1;
use skep_types::{Node, NodeDescription, NodeId, NodeState, TaskId, TaskStatus};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{bounds, status};
use crate::auth::{Allowed, caller};
use crate::chance;
use crate::dispatcher::assignments::Assignments;
use crate::dispatcher::{Describer, Pulse, SessionError};
use crate::shared::Shared;
use crate::store::Watched;

/// Shortest time between two messages of one assignment stream. The first change after a quiet time
/// goes out at once; a burst is gathered for this long.
const SPACING: Duration = Duration::from_millis(5);
/// Messages that a slow agent may be behind; then its stream waits and differences gather.
const BACKLOG: usize = 4;

/// The manager's end of agents' sessions.
pub(super) struct Dispatcher(pub Arc<Shared>);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Dispatcher {
    /// The calling node and the end of its session, if `session` is its current one.
    fn session<T>(
        &self,
        request: &Request<T>,
        session: &str,
    ) -> Result<(NodeId, CancellationToken), Status> {
        let node = caller(&self.0, request, Allowed::WorkersAndManagers)?.node_id;
        if !*self.0.leading.borrow() {
            return Err(Status::unavailable("this manager is not the leader"));
        }
        let ended = self.0.sessions.check(&node, session).map_err(status::session)?;
        Ok((node, ended))
    }

    /// The address the others know a node by: its connection's, but for our own agent, which may come
    /// over loopback.
    fn seen_address(&self, node: &NodeId, seen: IpAddr) -> String {
        let own = || {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow();
            let mut members = metrics.membership_config.nodes();
            let own = members.find(|(_, member)| member.node_id == self.0.node_id)?;
            own.1.addr.parse::<SocketAddr>().ok().map(|addr| addr.ip())
        };
        let ours = *node == self.0.node_id && seen.is_loopback();
        let address = if ours { own().unwrap_or(seen) } else { seen };
        address.to_canonical().to_string()
    }

    async fn register(
        &self,
        node: &NodeId,
        description: Option<NodeDescription>,
        addr: String,
    ) -> Result<(), Status> {
        let id = node.clone();
        let written = self.0.writer.write(move |store, _| {
            let node = store.node(&id).ok_or_else(|| Status::unknown("node not found"))?;
            Ok::<_, Status>((ready(node, description, addr), ()))
        });
        written.await.map_err(status::write)?.map(|_| ())
    }
}

/// Marks a node ready, if anything about it changes.
fn ready(node: &Node, description: Option<NodeDescription>, addr: String) -> Vec<Action> {
    let mut next = node.clone();
    if let Some(description) = description {
        next.description = description;
    }
    next.status.state = NodeState::Ready;
    next.status.message.clear();
    if !addr.is_empty() {
        next.status.addr = addr;
    }
    if next == *node {
        return Vec::new();
    }
    if node.status.state != NodeState::Ready {
        tracing::info!(node = %node.id, from = ?node.status.state, "node is ready");
    }
    vec![Action::Update(next.into())]
}

#[tonic::async_trait]
impl v1::dispatcher_server::Dispatcher for Dispatcher {
    type SessionStream = Out<v1::SessionMessage>;
    type TasksStream = Out<v1::TasksMessage>;
    type AssignmentsStream = Out<v1::AssignmentsMessage>;

    async fn session(
        &self,
        request: Request<v1::SessionRequest>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = caller(&self.0, &request, Allowed::WorkersAndManagers)?.node_id;
        if !*self.0.leading.borrow() {
            return Err(Status::unavailable("this manager is not the leader"));
        }
        let addr = request
            .remote_addr()
            .map_or_else(String::new, |addr| self.seen_address(&node, addr.ip()));
        let request = request.into_inner();
        request.description.as_ref().map_or(Ok(()), bounds::description)?;
        let description = request.description.map(NodeDescription::try_from).transpose();
        let description = description.map_err(status::convert)?;
        let limit = Pulse::of(&self.0.read()).limit;
        let opened = self
            .0
            .sessions
            .open(&node, &request.session_id, chance::id(), Instant::now(), limit)
            .inspect_err(|error| {
                tracing::warn!(%node, address = addr, error = skep_types::report(error), "refused a session");
            })
            .map_err(status::session)?;
        // The first message must show the node as it is from now on.
        self.register(&node, description, addr).await?;
        let describer = Describer {
            cell: self.0.cell.clone(),
            raft: self.0.raft.clone(),
            node,
            session: opened.id,
        };
        let (messages, stream) = mpsc::channel(BACKLOG);
        tokio::spawn(tell_session(self.0.clone(), describer, opened.ended, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let session = &request.get_ref().session_id;
        let (node, _) = self.session(&request, session)?;
        let pulse = Pulse::of(&self.0.read());
        let beaten = self.0.sessions.beat(&node, session, Instant::now(), pulse.limit);
        beaten.map_err(status::session)?;
        let period = prost_types::Duration::try_from(pulse.next_beat())
            .map_err(|_| Status::internal("the heartbeat period is out of range"))?;
        Ok(Response::new(v1::HeartbeatResponse { period: Some(period) }))
    }

    async fn update_task_status(
        &self,
        request: Request<v1::UpdateTaskStatusRequest>,
    ) -> Result<Response<v1::UpdateTaskStatusResponse>, Status> {
        let (node, _) = self.session(&request, &request.get_ref().session_id)?;
        let store = self.0.read();
        let mut reports = Vec::new();
        for update in request.into_inner().updates {
            let Some(reported) = update.status else { continue };
            let id = TaskId::from(update.task_id);
            let Some(task) = store.task(&id) else { continue };
            if task.node_id != node {
                return Err(Status::permission_denied(format!("task {id} is not of node {node}")));
            }
            let reported = bounds::task_status(reported)?;
            reports.push((id, TaskStatus::try_from(reported).map_err(status::convert)?));
        }
        self.0.reports.add(reports);
        Ok(Response::new(v1::UpdateTaskStatusResponse {}))
    }

    async fn update_volume_status(
        &self,
        request: Request<v1::UpdateVolumeStatusRequest>,
    ) -> Result<Response<v1::UpdateVolumeStatusResponse>, Status> {
        self.session(&request, &request.get_ref().session_id)?;
        Err(Status::unimplemented("this swarm has no cluster volumes"))
    }

    async fn tasks(
        &self,
        request: Request<v1::TasksRequest>,
    ) -> Result<Response<Self::TasksStream>, Status> {
        self.session(&request, &request.get_ref().session_id)?;
        Err(Status::unimplemented("use the assignments stream"))
    }

    async fn assignments(
        &self,
        request: Request<v1::AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let (node, ended) = self.session(&request, &request.get_ref().session_id)?;
        let (messages, stream) = mpsc::channel(BACKLOG);
        tokio::spawn(tell_assignments(self.0.clone(), node, ended, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// How a stream ends when its session does.
fn session_ended(shared: &Shared) -> Status {
    if shared.stop.is_cancelled() || !*shared.leading.borrow() {
        return Status::aborted("this manager is stopping");
    }
    status::session(SessionError::Invalid)
}

/// Whether a change can make another session message.
fn concerns_session(watched: &Watched, node: &NodeId) -> bool {
    match watched {
        Watched::Reread(_) => true,
        Watched::Changes(changes) => changes.list.iter().any(|change| match change.key() {
            ObjectKey::Node(id) => id == *node,
            ObjectKey::Cluster(_) => true,
            _ => false,
        }),
    }
}

async fn tell_session(
    shared: Arc<Shared>,
    describer: Describer,
    ended: CancellationToken,
    messages: mpsc::Sender<Result<v1::SessionMessage, Status>>,
) {
    let (_, mut watcher) = shared.cell.watch();
    let mut membership = shared.raft.metrics();
    let mut known_managers = membership.borrow_and_update().membership_config.clone();
    let mut last = None;
    loop {
        let Some(message) = describer.message() else {
            // The agent's node was removed: it must leave.
            drop(messages.send(Err(Status::aborted("the node was removed from the swarm"))).await);
            return;
        };
        if last.as_ref() != Some(&message) {
            if messages.send(Ok(message.clone())).await.is_err() {
                return;
            }
            last = Some(message);
        }
        loop {
            tokio::select! {
                () = ended.cancelled() => {
                    drop(messages.send(Err(session_ended(&shared))).await);
                    return;
                }
                () = messages.closed() => return,
                watched = watcher.next() => match watched {
                    None => return,
                    Some(watched) if concerns_session(&watched, &describer.node) => break,
                    Some(_) => {}
                },
                changed = membership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = membership.borrow_and_update().membership_config.clone();
                    if now != known_managers {
                        known_managers = now;
                        break;
                    }
                }
            }
        }
    }
}

async fn tell_assignments(
    shared: Arc<Shared>,
    node: NodeId,
    ended: CancellationToken,
    messages: mpsc::Sender<Result<v1::AssignmentsMessage, Status>>,
) {
    let (store, mut watcher) = shared.cell.watch();
    let mut assignments = Assignments::new(node);
    let first = assignments.complete(&store);
    if messages.send(Ok(first)).await.is_err() {
        return;
    }
    let mut quiet_until = tokio::time::Instant::now();
    loop {
        let watched = tokio::select! {
            () = ended.cancelled() => {
                drop(messages.send(Err(session_ended(&shared))).await);
                return;
            }
            () = messages.closed() => return,
            watched = watcher.next() => watched,
        };
        let concerned = match watched {
            None => return,
            Some(Watched::Reread(_)) => true,
            Some(Watched::Changes(changes)) => assignments.concerns(&changes),
        };
        if !concerned {
            continue;
        }
        tokio::time::sleep_until(quiet_until).await;
        // What came meanwhile is in the store that is read next.
        while watcher.try_next().is_some() {}
        let latest: Store = shared.cell.read();
        if let Some(message) = assignments.incremental(&latest) {
            if messages.send(Ok(message)).await.is_err() {
                return;
            }
            quiet_until = tokio::time::Instant::now() + SPACING;
        }
    }
}
