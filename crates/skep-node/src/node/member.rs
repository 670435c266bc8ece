use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use skep_agent::{Agent, AgentConfig, Link, ManagerAddress, SessionView};
use skep_manager::{Control, Manager, ManagerConfig, ManagerStart};
use skep_pki::{StoreError, TlsHandle};
use skep_types::NodeId;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::SwarmNode;
use super::clock::now;
use super::{remotes, renewal};
use crate::address::DEFAULT_PORT;
use crate::state::State;
use crate::{Membership, NodeError, NotManager};

/// A running membership: the agent, and on managers the manager.
pub(super) struct Member {
    pub state: State,
    pub tls: TlsHandle,
    node_id: NodeId,
    manager: Option<ManagerPart>,
    /// `None` once it was stopped.
    agent: Mutex<Option<Agent>>,
    view: watch::Receiver<Option<Arc<SessionView>>>,
    link: watch::Receiver<Link>,
    /// Renews certificates and keeps what the next start needs.
    chores: JoinHandle<()>,
}

/// What is asked of the manager without waiting, and the manager itself until it is stopped.
struct ManagerPart {
    control: Control,
    leading: watch::Receiver<bool>,
    failure: watch::Receiver<Option<String>>,
    running: Mutex<Option<Manager>>,
}

pub(super) fn internal<E>(action: &'static str) -> impl FnOnce(E) -> NodeError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| NodeError::Internal { action, source: source.into() }
}

/// Binds the remote API's socket.
pub(super) async fn bind(addr: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(addr).await.map_err(|source| NodeError::Bind { addr, source })
}

impl Member {
    /// Starts what is on disk.
    pub async fn resume(
        node: &SwarmNode,
        state: State,
        unlock_key: Option<Vec<u8>>,
    ) -> Result<Self, NodeError> {
        Self::resume_as(node, state, unlock_key, ManagerStart::Resume).await
    }

    /// The same; `start` is for a manager.
    pub async fn resume_as(
        node: &SwarmNode,
        state: State,
        unlock_key: Option<Vec<u8>>,
        start: ManagerStart,
    ) -> Result<Self, NodeError> {
        let certificates = skep_pki::Store::new(node.folder.certificates());
        let (store, key) = (certificates.clone(), unlock_key.clone());
        let credentials = tokio::task::spawn_blocking(move || store.load(now(), key.as_deref()))
            .await
            .map_err(internal("read the node's certificate"))?
            .map_err(|error| match error {
                StoreError::Locked | StoreError::WrongKey => NotManager::Locked.into(),
                other => internal("read the node's certificate")(other),
            })?;
        let missing = || internal("read the node's certificate")("it is missing");
        let tls = TlsHandle::new(credentials.ok_or_else(missing)?);
        let manager = if tls.current().identity().is_manager() {
            let listener = bind(state.listen_addr).await?;
            let config = ManagerConfig {
                raft_dir: node.folder.raft(),
                listener,
                advertise_addr: state.advertise_addr.to_string(),
                tls: tls.clone(),
                certificates: certificates.clone(),
                unlock_key,
                start,
                host_routes: Arc::clone(&node.config.host_routes),
            };
            Some(Manager::start(config).await.map_err(|error| {
                if error.is_locked() || error.is_wrong_key() {
                    NodeError::NotManager(NotManager::Locked)
                } else {
                    internal("start the manager")(error)
                }
            })?)
        } else {
            None
        };
        Self::start(node, state, tls, certificates, manager).await
    }

    /// Starts the agent beside a manager that runs already, if there is to be one.
    pub async fn start(
        node: &SwarmNode,
        state: State,
        tls: TlsHandle,
        certificates: skep_pki::Store,
        manager: Option<Manager>,
    ) -> Result<Self, NodeError> {
        let started = async {
            let managers = first_managers(node, &state, manager.is_some()).await?;
            let agent = Self::start_agent(node, &state, &tls, managers.clone()).await?;
            if let Some(manager) = &manager {
                manager.agent_started();
            }
            Ok((managers, agent))
        };
        match started.await {
            Ok((managers, agent)) => {
                Ok(Self::assemble(node, state, tls, certificates, manager, agent, managers))
            }
            Err(error) => {
                if let Some(manager) = manager {
                    manager.stop().await;
                }
                Err(error)
            }
        }
    }

    async fn start_agent(
        node: &SwarmNode,
        state: &State,
        tls: &TlsHandle,
        managers: Vec<ManagerAddress>,
    ) -> Result<Agent, NodeError> {
        let identity = tls.current().identity().clone();
        let advertise_ip = state.advertise_addr.ip();
        let membership = Membership {
            cluster_id: identity.cluster_id,
            node_id: identity.node_id.clone(),
            listen_ip: state.listen_addr.ip(),
            advertise_ip,
            data_path_ip: state.data_path_addr.unwrap_or(advertise_ip),
        };
        let joined = node.config.host.joined(&membership).await;
        joined.map_err(|source| NodeError::Internal {
            action: "prepare this host for the swarm",
            source,
        })?;
        let config = AgentConfig {
            managers,
            tls: tls.clone(),
            executor: node.config.executor.clone(),
            state_dir: node.folder.worker(),
        };
        Agent::start(config).await.map_err(internal("start the agent"))
    }

    fn assemble(
        node: &SwarmNode,
        state: State,
        tls: TlsHandle,
        certificates: skep_pki::Store,
        manager: Option<Manager>,
        agent: Agent,
        managers: Vec<ManagerAddress>,
    ) -> Self {
        let manager = manager.map(|manager| {
            let (failed, failure) = watch::channel(None);
            let watched = manager.failure();
            tokio::spawn(async move {
                if let Some(reason) = watched.await {
                    failed.send_replace(Some(reason));
                }
            });
            ManagerPart {
                control: manager.control(),
                leading: manager.leading(),
                failure,
                running: Mutex::new(Some(manager)),
            }
        });
        let renewing = renewal::run(
            tls.clone(),
            agent.node(),
            certificates,
            managers.into_iter().map(|manager| manager.addr).collect(),
        );
        let keeping = remotes::keep(node.folder.clone(), agent.node());
        let chores = tokio::spawn(async move {
            tokio::join!(renewing, keeping);
        });
        Self {
            node_id: tls.current().identity().node_id.clone(),
            state,
            tls,
            manager,
            view: agent.node(),
            link: agent.link(),
            agent: Mutex::new(Some(agent)),
            chores,
        }
    }

    pub fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    pub fn is_manager(&self) -> bool {
        self.manager.is_some()
    }

    pub fn control(&self) -> Result<Control, NotManager> {
        let manager = self.manager.as_ref().ok_or(NotManager::Worker)?;
        if let Some(failure) = self.failure() {
            return Err(NotManager::Failed(failure));
        }
        if !*manager.leading.borrow() {
            return Err(NotManager::NoLeader);
        }
        Ok(manager.control.clone())
    }

    /// Why the manager stopped by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        self.manager.as_ref().and_then(|manager| manager.failure.borrow().clone())
    }

    /// The same as it changes; ends when the manager was stopped. `None` on a worker.
    pub fn failures(&self) -> Option<watch::Receiver<Option<String>>> {
        self.manager.as_ref().map(|manager| manager.failure.clone())
    }

    /// What opens the manager's raft log the next time.
    pub async fn unlock_key(&self) -> Option<Vec<u8>> {
        let manager = self.manager.as_ref()?.running.lock().await;
        manager.as_ref().and_then(Manager::unlock_key)
    }

    pub fn view(&self) -> Option<Arc<SessionView>> {
        self.view.borrow().clone()
    }

    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Waits until the agent is in session, at most `limit`; true if it is.
    pub async fn in_session(&self, limit: Duration) -> bool {
        let mut view = self.view.clone();
        let there = async { view.wait_for(Option::is_some).await.is_ok() };
        tokio::time::timeout(limit, there).await.unwrap_or(false)
    }

    /// Waits until the manager leads, at most `limit`.
    pub async fn leads(&self, limit: Duration) -> bool {
        let Some(manager) = &self.manager else { return false };
        let mut leading = manager.leading.clone();
        let leads = async { leading.wait_for(|leads| *leads).await.is_ok() };
        tokio::time::timeout(limit, leads).await.unwrap_or(false)
    }

    /// Stops agent, then manager. Containers stay.
    pub async fn stop(&self) {
        self.chores.abort();
        if let Some(agent) = self.agent.lock().await.take() {
            agent.shutdown().await;
        }
        if let Some(part) = &self.manager
            && let Some(manager) = part.running.lock().await.take()
        {
            manager.stop().await;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.chores.abort();
    }
}

/// Where the agent begins: on a manager there, else with the managers that the last session named and
/// those that this host joined by.
async fn first_managers(
    node: &SwarmNode,
    state: &State,
    is_manager: bool,
) -> Result<Vec<ManagerAddress>, NodeError> {
    if is_manager {
        return Ok(vec![ManagerAddress {
            node_id: NodeId::default(),
            addr: own_address(node, state).to_string(),
        }]);
    }
    let known = node.on_disk(|folder| Ok(folder.load_managers())).await?;
    let joined_by = state.remote_addrs.iter().map(|addr| with_port(addr));
    let addrs: BTreeSet<String> = known.into_iter().chain(joined_by).collect();
    let nameless = |addr| ManagerAddress { node_id: NodeId::default(), addr };
    Ok(addrs.into_iter().map(nameless).collect())
}

/// Where this host's agent finds its own manager: at the advertised address if that is on this host,
/// so that the manager sees the address the others see; else where the manager listens.
fn own_address(node: &SwarmNode, state: &State) -> SocketAddr {
    let advertised = state.advertise_addr;
    let listen = state.listen_addr;
    let local = node.resolver().is_ok_and(|resolver| resolver.has(advertised.ip()));
    if local
        && (listen.ip().is_unspecified() || listen.ip() == advertised.ip())
        && listen.port() == advertised.port()
    {
        return advertised;
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A remote manager's address as the user typed it; the port may be left out.
pub(super) fn with_port(addr: &str) -> String {
    if let Ok(ip) = addr.parse::<IpAddr>() {
        return SocketAddr::new(ip, DEFAULT_PORT).to_string();
    }
    match addr.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => addr.to_owned(),
        _ => format!("{addr}:{DEFAULT_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_it_is_missing() {
        for (given, want) in [
            ("192.0.2.1", "192.0.2.1:2377"),
            ("192.0.2.1:99", "192.0.2.1:99"),
            ("host", "host:2377"),
            ("host:99", "host:99"),
            ("2001:db8::1", "[2001:db8::1]:2377"),
            ("[2001:db8::1]:99", "[2001:db8::1]:99"),
        ] {
            assert_eq!(with_port(given), want);
        }
    }
}
