//! A manager's dispatcher and log broker, as small as the tests need them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::{Stream, StreamExt as _};
use skep_pki::{
    Credentials, NodeKey, NodeSubject, Signer, TlsHandle, TlsIncoming, TrustRoot, create_root,
    peer_identity,
};
use skep_proto::v1::dispatcher_server::{Dispatcher, DispatcherServer};
use skep_proto::v1::log_broker_server::{LogBroker, LogBrokerServer};
use skep_proto::v1::*;
use skep_types::{Nanos, NodeRole, TaskState};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::ManagerAddress;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A root, and certificates from it.
pub(super) struct Swarm {
    pub trust: TrustRoot,
    signer: Signer,
}

impl Swarm {
    pub(super) fn new() -> Self {
        let root = create_root(crate::now()).unwrap();
        let pem = root.certificate_pem.as_bytes();
        Self {
            trust: TrustRoot::from_pem(pem, crate::now()).unwrap(),
            signer: Signer::from_pem(pem, root.key_pem.as_bytes()).unwrap(),
        }
    }

    pub(super) fn issue(&self, id: &str, role: NodeRole) -> Credentials {
        let key = NodeKey::generate().unwrap();
        let subject = NodeSubject { node_id: id.into(), role, cluster_id: "swarm".into() };
        let request = key.request_pem().unwrap();
        let pem =
            self.signer.sign(request.as_bytes(), &subject, Nanos::default(), crate::now()).unwrap();
        Credentials::new(self.trust.clone(), &pem, key.to_pem().as_bytes(), crate::now()).unwrap()
    }
}

#[derive(Default)]
pub(super) struct Record {
    pub sessions: Vec<SessionRequest>,
    pub callers: Vec<String>,
    pub heartbeats: usize,
    /// Every status that was accepted, in order.
    pub statuses: Vec<(String, TaskState)>,
    pub published: Vec<PublishLogsMessage>,
    pub assignments_opened: usize,
    /// The next calls of UpdateTaskStatus fail with these.
    pub refuse_updates: Vec<Status>,
    /// The next calls of Session fail with these.
    pub refuse_sessions: Vec<Status>,
    /// Tasks that count as another node's.
    pub foreign: Vec<String>,
    /// The next heartbeats fail with these.
    pub refuse_heartbeats: Vec<Status>,
    /// What every new assignments stream begins with.
    pub first_assignments: Vec<AssignmentsMessage>,
    live: Vec<mpsc::UnboundedSender<Result<AssignmentsMessage, Status>>>,
    subscribers: Vec<mpsc::UnboundedSender<Result<SubscriptionMessage, Status>>>,
    /// Known session ids.
    ids: Vec<String>,
}

pub(super) struct TestManager {
    pub address: ManagerAddress,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    record: Mutex<Record>,
    message: watch::Sender<SessionMessage>,
}

impl TestManager {
    pub(super) async fn start(swarm: &Swarm, id: &str) -> Self {
        let tls = TlsHandle::new(swarm.issue(id, NodeRole::Manager));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let address = ManagerAddress { node_id: id.into(), addr };
        let mut node = skep_types::Node { id: "node".into(), ..skep_types::Node::default() };
        node.vxlan_udp_port = 4789;
        let message = SessionMessage {
            session_id: String::new(),
            node: Some((&node).into()),
            managers: vec![weighted(&address)],
            network_bootstrap_keys: Vec::new(),
            root_ca: swarm.trust.pem().to_vec(),
        };
        let shared =
            Arc::new(Shared { record: Mutex::default(), message: watch::Sender::new(message) });
        let incoming = TlsIncoming::new(listener, &tls).unwrap();
        let (dispatcher, broker) = (Service(shared.clone()), Service(shared.clone()));
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(DispatcherServer::new(dispatcher))
                .add_service(LogBrokerServer::new(broker))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { address, shared, server }
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().unwrap()
    }

    /// Changes what session messages say, and sends one to every session.
    pub(super) fn say(&self, change: impl FnOnce(&mut SessionMessage)) {
        self.shared.message.send_modify(change);
    }

    /// Sends to every open assignments stream.
    pub(super) fn assign(&self, message: &AssignmentsMessage) {
        self.record().live.retain(|stream| stream.send(Ok(message.clone())).is_ok());
    }

    pub(super) fn subscribe(&self, message: &SubscriptionMessage) {
        self.record().subscribers.retain(|stream| stream.send(Ok(message.clone())).is_ok());
    }

    pub(super) fn has_subscriber(&self) -> bool {
        !self.record().subscribers.is_empty()
    }

    /// Ends all sessions and answers the next attempts with these, the last first.
    pub(super) fn refuse(&self, statuses: Vec<Status>) {
        let mut record = self.record();
        record.refuse_sessions = statuses;
        record.refuse_heartbeats = vec![Status::unavailable("going away")];
    }

    /// Breaks every connection, as when the manager dies.
    pub(super) fn kill(&self) {
        self.server.abort();
        let mut record = self.record();
        record.live.clear();
        record.subscribers.clear();
    }
}

impl Drop for TestManager {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(super) fn weighted(address: &ManagerAddress) -> WeightedPeer {
    let peer = Peer { node_id: address.node_id.to_string(), addr: address.addr.clone() };
    WeightedPeer { peer: Some(peer), weight: 10 }
}

struct Service(Arc<Shared>);

impl Service {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap()
    }

    fn check(&self, id: &str) -> Result<(), Status> {
        if self.record().ids.iter().any(|known| known == id) {
            return Ok(());
        }
        Err(Status::invalid_argument("session invalid"))
    }
}

#[tonic::async_trait]
impl Dispatcher for Service {
    type SessionStream = Answers<SessionMessage>;
    type AssignmentsStream = Answers<AssignmentsMessage>;
    type TasksStream = Answers<TasksMessage>;

    async fn session(
        &self,
        request: Request<SessionRequest>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = peer_identity(&request).unwrap().expect("a certificate");
        let request = request.into_inner();
        let mut record = self.record();
        if let Some(status) = record.refuse_sessions.pop() {
            return Err(status);
        }
        let id = if record.ids.contains(&request.session_id) {
            request.session_id.clone()
        } else {
            format!("session{}", record.sessions.len())
        };
        record.ids = vec![id.clone()];
        record.callers.push(caller.node_id.to_string());
        record.sessions.push(request);
        let messages = tokio_stream::wrappers::WatchStream::new(self.0.message.subscribe());
        Ok(Response::new(
            messages
                .map(move |message| Ok(SessionMessage { session_id: id.clone(), ..message }))
                .boxed(),
        ))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        if let Some(status) = self.record().refuse_heartbeats.pop() {
            return Err(status);
        }
        self.check(&request.into_inner().session_id)?;
        self.record().heartbeats += 1;
        let period = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
        Ok(Response::new(HeartbeatResponse { period }))
    }

    async fn update_task_status(
        &self,
        request: Request<UpdateTaskStatusRequest>,
    ) -> Result<Response<UpdateTaskStatusResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.session_id)?;
        let mut record = self.record();
        if let Some(status) = record.refuse_updates.pop() {
            return Err(status);
        }
        if request.updates.iter().any(|update| record.foreign.contains(&update.task_id)) {
            return Err(Status::permission_denied("not your task"));
        }
        for update in request.updates {
            let status = skep_types::TaskStatus::try_from(update.status.unwrap()).unwrap();
            record.statuses.push((update.task_id, status.state));
        }
        Ok(Response::new(UpdateTaskStatusResponse {}))
    }

    async fn update_volume_status(
        &self,
        _: Request<UpdateVolumeStatusRequest>,
    ) -> Result<Response<UpdateVolumeStatusResponse>, Status> {
        Err(Status::unimplemented("no volumes here"))
    }

    async fn tasks(&self, _: Request<TasksRequest>) -> Result<Response<Self::TasksStream>, Status> {
        Err(Status::unimplemented("assignments, please"))
    }

    async fn assignments(
        &self,
        request: Request<AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        self.check(&request.into_inner().session_id)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut record = self.record();
        record.assignments_opened += 1;
        for message in &record.first_assignments {
            sender.send(Ok(message.clone())).unwrap();
        }
        record.live.push(sender);
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }
}

#[tonic::async_trait]
impl LogBroker for Service {
    type ListenSubscriptionsStream = Answers<SubscriptionMessage>;

    async fn listen_subscriptions(
        &self,
        _: Request<ListenSubscriptionsRequest>,
    ) -> Result<Response<Self::ListenSubscriptionsStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.record().subscribers.push(sender);
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<PublishLogsMessage>>,
    ) -> Result<Response<PublishLogsResponse>, Status> {
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            self.record().published.push(message);
        }
        Ok(Response::new(PublishLogsResponse {}))
    }
}
