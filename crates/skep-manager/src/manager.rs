use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_control::admission::{self, ClusterSeed};
use skep_control::{Action, Store};
use skep_pki::{CertError, TlsHandle, TlsIncoming};
use skep_types::{Node, NodeId};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::{Control, ControlError};
use crate::dispatcher::{Sessions, StatusReports};
use crate::leader;
use crate::lock::keep_locked;
use crate::logs::LogBroker;
use crate::raft::{self, Begin, KeyFileError, Member, RaftNode, RaftStartError, keep_short};
use crate::rpc::{self, GrpcTransport};
use crate::shared::{HostRoutes, Shared};
use crate::store::{Room, Watcher, WriteError, Writer};

/// Time for a sole manager to begin to lead; it needs milliseconds.
const LEAD_LIMIT: Duration = Duration::from_secs(20);
/// Time for open calls to end when the manager stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// What a manager is started with.
pub struct ManagerConfig {
    /// Folder of the raft log; made if missing.
    pub raft_dir: PathBuf,
    /// The remote API's socket, bound by the caller so that a port in use is known early.
    pub listener: TcpListener,
    /// host:port at which the others reach `listener`.
    pub advertise_addr: String,
    /// The node's credentials, with a manager's certificate.
    pub tls: TlsHandle,
    /// Where they are on disk; sealed along with the raft log's keys.
    pub certificates: skep_pki::Store,
    /// Opens a locked raft log.
    pub unlock_key: Option<Vec<u8>>,
    pub start: ManagerStart,
    /// Which routes this host has now: subnets of the swarm's networks go round them while it leads.
    pub host_routes: HostRoutes,
}

/// How a manager begins.
pub enum ManagerStart {
    /// Makes a new swarm, with this node as its first.
    NewSwarm(Box<NewSwarm>),
    /// Goes on with what is on disk.
    Resume,
    /// Goes on with what is on disk, as the only manager.
    ForceNewCluster,
}

/// What a new swarm is made of.
pub struct NewSwarm {
    pub seed: ClusterSeed,
    /// The first node, its certificate included.
    pub node: Node,
}

/// Why a manager did not start.
#[derive(Debug, Error)]
pub enum ManagerStartError {
    #[error("cannot start raft")]
    Raft(#[from] RaftStartError),
    #[error("cannot serve the remote API")]
    Tls(#[source] CertError),
    #[error("the swarm's settings are refused")]
    Refused(#[source] ControlError),
    #[error("cannot write the new swarm")]
    Write(#[source] WriteError),
    #[error("this manager did not become leader within {} s", LEAD_LIMIT.as_secs())]
    NoLeader,
}

impl ManagerStartError {
    /// The raft log is locked and no key was given.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Raft(RaftStartError::Keys(KeyFileError::Locked)))
    }

    /// The unlock key does not fit.
    pub fn is_wrong_key(&self) -> bool {
        matches!(self, Self::Raft(RaftStartError::Keys(KeyFileError::WrongKey)))
    }
}

/// A running manager. Dropping it stops it without waiting; [`Manager::stop`] waits.
pub struct Manager {
    shared: Arc<Shared>,
    raft_id: u64,
    log_closed: watch::Receiver<()>,
    unlock_key: watch::Receiver<Option<Vec<u8>>>,
    /// Why the remote API ended, if it did by itself.
    api_ended: watch::Receiver<Option<String>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Manager {
    /// Opens the store, starts raft and serves the remote API.
    ///
    /// With [`ManagerStart::NewSwarm`] the swarm is on disk when this returns; otherwise this returns
    /// once raft runs, led or not (see [`Manager::leading`]).
    ///
    /// # Errors
    /// Nothing runs afterwards; a new swarm's files may be left behind in part.
    pub async fn start(config: ManagerConfig) -> Result<Self, ManagerStartError> {
        let node_id = config.tls.current().identity().node_id.clone();
        let member = Member { node_id: node_id.clone(), addr: config.advertise_addr };
        let (begin, new_swarm) = match config.start {
            ManagerStart::NewSwarm(new_swarm) => (Begin::Alone, Some(new_swarm)),
            ManagerStart::Resume => (Begin::Resume, None),
            ManagerStart::ForceNewCluster => (Begin::ForceAlone, None),
        };
        let incoming =
            TlsIncoming::new(config.listener, &config.tls).map_err(ManagerStartError::Tls)?;
        let transport = Arc::new(GrpcTransport::new(config.tls.clone()));
        let node =
            RaftNode::start(&config.raft_dir, member, begin, config.unlock_key, transport).await?;
        let shared = Arc::new(Shared {
            node_id,
            writer: Writer::spawn(node.raft.clone(), node.cell.clone(), Room::new(config.raft_dir)),
            cell: node.cell.clone(),
            raft: node.raft.clone(),
            tls: config.tls,
            sessions: Sessions::new(),
            reports: StatusReports::new(),
            logs: LogBroker::new(),
            host_routes: config.host_routes,
            own_agent: watch::Sender::new(false),
            leading: watch::Sender::new(false),
            stop: CancellationToken::new(),
        });
        let (raft_id, log_closed, unlock_key) = (node.id(), node.log_closed(), node.unlock_key());
        let (api, api_ended) = watch::channel(None);
        let tasks = vec![
            tokio::spawn(leader::supervise(shared.clone(), raft_id)),
            tokio::spawn(serve(shared.clone(), incoming, api)),
            tokio::spawn(keep_short(shared.clone(), node.appended_bytes())),
            tokio::spawn(keep_locked(shared.clone(), node, config.certificates)),
        ];
        let manager = Self { shared, raft_id, log_closed, unlock_key, api_ended, tasks };
        if let Some(new_swarm) = new_swarm {
            manager.found(*new_swarm).await?;
        }
        Ok(manager)
    }

    /// Writes the first objects.
    async fn found(&self, new_swarm: NewSwarm) -> Result<(), ManagerStartError> {
        let mut leading = self.leading();
        let led = async { leading.wait_for(|leads| *leads).await.is_ok() };
        if !tokio::time::timeout(LEAD_LIMIT, led).await.unwrap_or(false) {
            return Err(ManagerStartError::NoLeader);
        }
        let written = self.shared.writer.write(move |store, now| {
            let mut actions =
                admission::create_cluster(store, new_swarm.seed, now, &mut crate::chance::fill)
                    .map_err(ControlError::from)?;
            actions.push(Action::Create(new_swarm.node.into()));
            Ok::<_, ControlError>((actions, ()))
        });
        let written = written.await.map_err(ManagerStartError::Write)?;
        written.map(|_| ()).map_err(ManagerStartError::Refused)
    }

    pub fn control(&self) -> Control {
        Control::new(&self.shared)
    }

    /// Whether this manager leads and its loops run.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.shared.leading.subscribe()
    }

    /// Says that the agent of this manager's own node has begun to look for a manager. Until then its
    /// silence means nothing: this manager's life shows that the node lives.
    pub fn agent_started(&self) {
        self.shared.own_agent.send_replace(true);
    }

    /// Whether any manager leads, as far as this one knows.
    pub fn has_leader(&self) -> bool {
        self.shared.raft.metrics().borrow().current_leader.is_some()
    }

    /// Managers of the swarm: node and host:port.
    pub fn members(&self) -> Vec<(NodeId, String)> {
        let metrics = self.shared.raft.metrics();
        let metrics = metrics.borrow();
        let members = metrics.membership_config.nodes();
        members.map(|(_, member)| (member.node_id.clone(), member.addr.clone())).collect()
    }

    /// This manager's raft id.
    pub fn raft_id(&self) -> u64 {
        self.raft_id
    }

    /// The objects as they are now.
    pub fn read(&self) -> Store {
        self.shared.cell.read()
    }

    /// The objects as they are now, and every change from here on.
    pub fn watch(&self) -> (Store, Watcher) {
        self.shared.cell.watch()
    }

    /// Commits actions decided elsewhere; their versions protect them from being stale. Answers the
    /// index at which they took effect.
    pub async fn propose(&self, actions: Vec<Action>) -> Result<u64, WriteError> {
        self.shared.writer.propose(actions).await
    }

    /// Resolves when a part without which this is no manager has ended by itself, with the reason: raft
    /// (a failing disk), or the remote API. What is left is of no use but to be [stopped](Self::stop).
    /// `None` when the manager was stopped.
    pub fn failure(&self) -> impl Future<Output = Option<String>> + Send + use<> {
        let mut metrics = self.shared.raft.metrics();
        let api_ended = self.api_ended.clone();
        let stop = self.shared.stop.clone();
        async move {
            let raft = async {
                match metrics.wait_for(|m| m.running_state.is_err()).await {
                    Ok(metrics) => match &metrics.running_state {
                        Err(fatal) => raft::reason(fatal),
                        Ok(()) => String::new(),
                    },
                    Err(_) => "raft has stopped".to_owned(),
                }
            };
            let api = end_of_api(api_ended);
            tokio::select! {
                biased;
                () = stop.cancelled() => None,
                reason = raft => Some(reason),
                reason = api => Some(reason),
            }
        }
    }

    /// What the raft log's keys on disk are locked with. It lags behind what the swarm agreed on as long as
    /// that could not be written.
    pub fn unlock_key(&self) -> Option<Vec<u8>> {
        self.unlock_key.borrow().clone()
    }

    /// Stops serving, working and raft, in this order. The log can be opened again when this returns.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        self.shared.sessions.clear();
        for mut task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout(DRAIN_LIMIT, &mut task).await.is_err() {
                tracing::warn!("a task of the manager did not end in time, ending it");
                task.abort();
            }
        }
        if let Err(error) = self.shared.raft.shutdown().await {
            tracing::error!(%error, "raft did not stop cleanly");
        }
        let mut closed = self.log_closed.clone();
        drop(self);
        // The log's last user may be a call that is just ending.
        if tokio::time::timeout(DRAIN_LIMIT, async { while closed.changed().await.is_ok() {} })
            .await
            .is_err()
        {
            tracing::warn!("the raft log is still open after the manager stopped");
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Resolves with the reason when the remote API ends, a panic included.
async fn end_of_api(mut ended: watch::Receiver<Option<String>>) -> String {
    match ended.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(reason)) => reason.clone(),
        _ => "the remote API ended without a reason".to_owned(),
    }
}

async fn serve(shared: Arc<Shared>, incoming: TlsIncoming, ended: watch::Sender<Option<String>>) {
    let stop = shared.stop.clone();
    let reason = match rpc::serve(shared, incoming).await {
        Ok(()) if stop.is_cancelled() => return,
        Ok(()) => "the remote API ended without being told to".to_owned(),
        Err(error) => format!("the remote API ended: {}", skep_types::report(&error)),
    };
    tracing::error!(reason, "this manager cannot go on");
    ended.send_replace(Some(reason));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_remote_api_is_a_failure() {
        let (ended, watched) = watch::channel(None);
        ended.send_replace(Some("it broke".to_owned()));
        assert_eq!(end_of_api(watched).await, "it broke");
        // As after a panic.
        let (ended, watched) = watch::channel(None);
        drop(ended);
        assert_eq!(end_of_api(watched).await, "the remote API ended without a reason");
    }
}
