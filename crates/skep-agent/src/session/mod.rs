//! The session with a manager: found, kept, and found again.

mod assignments;
mod backoff;
mod error;
mod remotes;
mod reports;
mod subscriptions;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_pki::{Credentials, MANAGER_SERVER_NAME, TlsHandle};
use skep_proto::v1::dispatcher_client::DispatcherClient;
use skep_proto::v1::{HeartbeatRequest, SessionMessage, SessionRequest, WeightedPeer};
use skep_proto::{ConvertError, MAX_RESPONSE_BYTES};
use skep_types::{EncryptionKey, Node, NodeDescription, Repeated, defaults};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use self::backoff::Backoff;
use self::error::{CALL_TIMEOUT, SessionError, timed, timed_within};
use self::remotes::Remotes;
use crate::board::Board;
use crate::worker::Worker;
use crate::{Executor, Link, ManagerAddress, SessionView};
use skep_types::report;

type Dispatcher = DispatcherClient<Channel>;

/// How often this node looks whether it still is what it told the manager.
const DESCRIBE_EVERY: Duration = Duration::from_secs(20);

/// Managers have at least this time to answer a heartbeat.
const SHORTEST_BEAT_LIMIT: Duration = Duration::from_secs(2);

const SESSION: &str = "Session";

/// How many times in a row this node has to be told that it was removed before it gives up its tasks: a
/// manager that was restored from an old backup, or that is just going, may be wrong once.
const EXPULSIONS: u32 = 2;

/// Looks for a manager, keeps a session with it, and begins anew when it ends.
pub(crate) struct Sessions {
    pub tls: TlsHandle,
    pub executor: Arc<dyn Executor>,
    pub worker: Arc<Worker>,
    pub board: Arc<Board>,
    pub view: watch::Sender<Option<Arc<SessionView>>>,
    pub link: watch::Sender<Link>,
    pub stop: CancellationToken,
}

/// What a session leaves to the next.
struct Memory {
    remotes: Remotes,
    backoff: Backoff,
    /// The dispatcher may know it still; then it keeps it.
    session_id: String,
    /// How often managers have said that this node was removed, since its last session.
    expulsions: u32,
    trouble: Repeated,
}

/// How a session ended.
enum End {
    Stopped,
    /// Description or credentials changed: go on at once, with the same id.
    Changed,
}

impl Sessions {
    /// Runs until the agent stops.
    pub(crate) async fn run(self, managers: Vec<ManagerAddress>) {
        let mut memory = Memory {
            remotes: Remotes::new(managers),
            backoff: Backoff::default(),
            session_id: String::new(),
            expulsions: 0,
            trouble: Repeated::default(),
        };
        loop {
            let stop = self.stop.clone();
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(End::Stopped),
                result = self.attempt(&mut memory) => result,
            };
            match result {
                Ok(End::Stopped) => return,
                Ok(End::Changed) => {}
                Err(error) => {
                    let reason = report(&error);
                    if let Some(failures) = memory.trouble.failed(Instant::now(), &reason) {
                        tracing::warn!(error = reason, failures, "no session with a manager");
                    }
                    let node = self.tls.current().identity().node_id.clone();
                    if error.is_expulsion(&node) {
                        memory.expulsions += 1;
                    }
                    let link = if memory.expulsions >= EXPULSIONS {
                        // Others have its tasks now.
                        self.worker.replace(Vec::new());
                        Link::Expelled
                    } else {
                        Link::Down { reason }
                    };
                    self.link.send_replace(link);
                    let pause = memory.backoff.next(rand::random());
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// One session with one manager, from choosing it to the end.
    async fn attempt(&self, memory: &mut Memory) -> Result<End, SessionError> {
        let manager = memory.remotes.select(rand::random()).ok_or(SessionError::NoManager)?;
        let result = self.session(&manager, memory).await;
        if result.is_err() {
            memory.remotes.failed(&manager);
        }
        result
    }

    async fn session(
        &self,
        manager: &ManagerAddress,
        memory: &mut Memory,
    ) -> Result<End, SessionError> {
        let mut credentials = self.tls.watch();
        let own = credentials.borrow_and_update().clone();
        let description = self.describe(&own).await?;
        let config = self.tls.client_config().map_err(SessionError::Tls)?;
        let channel = skep_pki::connect(&manager.addr, MANAGER_SERVER_NAME, config)
            .await
            .map_err(SessionError::Connect)?;
        let dispatcher =
            DispatcherClient::new(channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let (first, stream) = open(dispatcher.clone(), &description, &memory.session_id).await?;
        memory.session_id.clone_from(&first.session_id);
        memory.backoff.reset();
        memory.expulsions = 0;
        memory.trouble.succeeded();
        self.take(first, &mut memory.remotes);
        memory.remotes.succeeded(manager);
        tracing::info!(manager = %manager.node_id, address = manager.addr, "session with a manager");
        self.link.send_replace(Link::Up { manager: manager.clone() });

        let id = memory.session_id.clone();
        let identity = own.identity().clone();
        tokio::select! {
            failed = self.follow(stream, &mut memory.remotes) => failed.map(never),
            failed = heartbeat(dispatcher.clone(), &id) => failed.map(never),
            failed = assignments::follow(dispatcher.clone(), &id, &self.worker) => failed.map(never),
            failed = reports::send(dispatcher.clone(), &id, &self.board) => failed.map(never),
            served = subscriptions::serve(channel, self.worker.clone(), identity) => never(served),
            () = self.changed(&description, &own, credentials) => Ok(End::Changed),
        }
    }

    /// This node as it is now.
    async fn describe(&self, own: &Credentials) -> Result<NodeDescription, SessionError> {
        let mut description = self.executor.describe().await.map_err(SessionError::Describe)?;
        description.tls_info = Some(own.tls_info().clone());
        Ok(description)
    }

    /// Takes messages of the session's stream until it breaks.
    async fn follow(
        &self,
        mut stream: Streaming<SessionMessage>,
        remotes: &mut Remotes,
    ) -> Result<Infallible, SessionError> {
        loop {
            match stream.message().await.map_err(SessionError::call(SESSION))? {
                Some(message) => self.take(message, remotes),
                None => return Err(SessionError::Ended { call: SESSION }),
            }
        }
    }

    /// Takes over what a session message says.
    fn take(&self, message: SessionMessage, remotes: &mut Remotes) {
        let managers = manager_addresses(&message.managers);
        remotes.update(managers.clone());
        match view(message, managers) {
            Ok(view) => {
                self.view.send_if_modified(|current| {
                    let changed = current.as_deref() != Some(&view);
                    if changed {
                        *current = Some(Arc::new(view));
                    }
                    changed
                });
            }
            // Better an old view than no session.
            Err(error) => tracing::error!(%error, "cannot understand a session message"),
        }
    }

    /// Returns when the node is no longer what the manager was told.
    async fn changed(
        &self,
        description: &NodeDescription,
        own: &Credentials,
        mut credentials: watch::Receiver<Arc<Credentials>>,
    ) {
        loop {
            tokio::select! {
                changed = credentials.changed() => {
                    // The handle that sends them is ours, so it is still there.
                    debug_assert!(changed.is_ok());
                    tracing::info!("the node's credentials changed");
                    return;
                }
                () = tokio::time::sleep(DESCRIBE_EVERY) => {}
            }
            match self.describe(own).await {
                Ok(now) if now == *description => {}
                Ok(_) => {
                    tracing::info!("the node's description changed");
                    return;
                }
                Err(error) => tracing::warn!(error = report(&error), "no description"),
            }
        }
    }
}

fn never<T>(nothing: Infallible) -> T {
    match nothing {}
}

/// Opens a session and waits for its first message.
async fn open(
    mut dispatcher: Dispatcher,
    description: &NodeDescription,
    session_id: &str,
) -> Result<(SessionMessage, Streaming<SessionMessage>), SessionError> {
    let request =
        SessionRequest { description: Some(description.into()), session_id: session_id.to_owned() };
    let first = async {
        let mut stream = dispatcher.session(request).await?.into_inner();
        Ok(stream.message().await?.map(|first| (first, stream)))
    };
    timed(SESSION, first).await?.ok_or(SessionError::Ended { call: SESSION })
}

/// Sends heartbeats, each as long after the last as the manager said.
///
/// An answer is waited for as long as two beats take: after a short cut of the network a new connection
/// gets through sooner than the old one, whose retransmissions have become rare.
async fn heartbeat(mut dispatcher: Dispatcher, id: &str) -> Result<Infallible, SessionError> {
    let mut limit = CALL_TIMEOUT;
    loop {
        let request = HeartbeatRequest { session_id: id.to_owned() };
        let beat = timed_within(limit, "Heartbeat", dispatcher.heartbeat(request));
        let period = (beat.await?.into_inner().period)
            .and_then(|period| Duration::try_from(period).ok())
            .filter(|period| !period.is_zero())
            .unwrap_or_else(|| defaults::HEARTBEAT_PERIOD.to_std());
        limit = (period * 2).clamp(SHORTEST_BEAT_LIMIT, CALL_TIMEOUT);
        tokio::time::sleep(period).await;
    }
}

fn manager_addresses(managers: &[WeightedPeer]) -> Vec<ManagerAddress> {
    let peers = managers.iter().filter_map(|manager| manager.peer.as_ref());
    peers
        .map(|peer| ManagerAddress {
            node_id: peer.node_id.as_str().into(),
            addr: peer.addr.clone(),
        })
        .collect()
}

fn view(
    message: SessionMessage,
    managers: Vec<ManagerAddress>,
) -> Result<SessionView, ConvertError> {
    let node = message.node.ok_or_else(|| ConvertError::Missing { field: "node".to_owned() })?;
    Ok(SessionView {
        node: Node::try_from(node).map_err(|error| error.within("node"))?,
        managers,
        network_keys: message
            .network_bootstrap_keys
            .into_iter()
            .map(EncryptionKey::try_from)
            .collect::<Result<_, _>>()?,
        root_pem: message.root_ca,
    })
}
