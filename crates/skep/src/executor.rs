//! The engine as the agent's [`Executor`]: tasks become containers, overlays and bindings.

mod attachable;
mod body;
mod controller;
mod describe;
mod files;
mod logs;
mod overlay;
mod ports;
mod pull;
mod workload;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use skep_agent::{Controller, Dependencies, ExecError, Executor, ManagerAddress};
use skep_engine::Engine;
use skep_net::{Cluster, GossipKey, GossipSettings, NetError, OverlayNetwork};
use skep_node::{Host, HostError, Membership, SwarmNode};
use skep_types::{EncryptionKey, NetworkId, Node, NodeDescription, Task, TaskId, defaults};
use tokio::sync::{Mutex as AsyncMutex, watch};

use attachable::Arrivals;
pub use attachable::SwarmNetworks;
use controller::TaskController;
use files::TaskFiles;
pub use ports::announce as announce_ports;

/// Which of the swarm's keys are for gossip.
const GOSSIP_SUBSYSTEM: &str = "networking:gossip";

/// What the executor knows of this host's place in the swarm.
#[derive(Clone, Debug, Default)]
struct Place {
    membership: Option<Membership>,
    /// Overlays that the network room was told of.
    overlays: BTreeMap<NetworkId, OverlayNetwork>,
}

/// Shared by the executor and the controllers it made.
pub(crate) struct Shared {
    pub engine: Engine,
    /// Tasks' secrets and configs.
    pub files: TaskFiles,
    /// Names this life of the daemon among the nodes: twelve hexadecimal digits.
    gossip_name: String,
    /// The node's object as last configured.
    pub node: watch::Sender<Option<Node>>,
    /// Places on networks for containers that no service made, as their tasks are prepared.
    pub arrivals: Arrivals,
    place: Mutex<Place>,
    /// Held while the network is told about the place: what was read before the swarm was left is not told
    /// after it.
    telling: AsyncMutex<()>,
}

impl Shared {
    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        // The place is only ever replaced field by field: a panic elsewhere leaves it whole.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's object, empty before it was configured.
    pub fn node(&self) -> Node {
        self.node.borrow().clone().unwrap_or_default()
    }

    /// Makes an overlay known to the network room, with this node's load-balancer address on it.
    pub async fn know_overlay(&self, network: &skep_types::Network) -> Result<(), ExecError> {
        let overlay = {
            let balancer = overlay::balancer_address(&self.node(), &network.id);
            let overlay = overlay::describe(network, balancer)?;
            self.place().overlays.insert(network.id.clone(), overlay.clone());
            overlay
        };
        let name = &network.spec.annotations.name;
        self.engine
            .net()
            .put_overlay(overlay)
            .await
            .map_err(|source| ExecError::temporary(format!("set up network {name}"), source))
    }

    /// Overlays the node no longer has an address on go, unless something is on them or about to be;
    /// then the next change of the node tries again.
    pub async fn forget_overlays(&self) {
        let gone: Vec<NetworkId> = {
            let node = self.node();
            let arrivals = self.arrivals.borrow();
            let awaited = |id: &NetworkId| {
                arrivals.values().flatten().any(|place| place.network == id.as_str())
            };
            let kept = |id: &NetworkId| {
                node.attachments.iter().any(|a| a.network.id == *id) || awaited(id)
            };
            self.place().overlays.keys().filter(|id| !kept(id)).cloned().collect()
        };
        for id in gone {
            match self.engine.net().remove_overlay(&id.as_str().into()).await {
                Ok(()) => {
                    self.place().overlays.remove(&id);
                }
                Err(error) => tracing::debug!(network = %id, %error, "an overlay is still in use"),
            }
        }
    }
}

pub struct EngineExecutor {
    host: Arc<Shared>,
}

impl EngineExecutor {
    /// `files` is a folder below the exec root.
    pub fn new(engine: Engine, files: PathBuf) -> Self {
        let (node, _) = watch::channel(None);
        let arrivals = Arrivals::default();
        let gossip_name = GossipSettings::new_name();
        let place = Mutex::default();
        let telling = AsyncMutex::default();
        let files = TaskFiles::new(files);
        Self {
            host: Arc::new(Shared { engine, files, gossip_name, node, arrivals, place, telling }),
        }
    }

    /// The swarm's networks for the engine's own containers.
    pub fn networks(&self, swarm: Arc<SwarmNode>) -> SwarmNetworks {
        SwarmNetworks::new(Arc::clone(&self.host), swarm)
    }

    async fn tell_cluster(&self) -> Result<(), NetError> {
        let _telling = self.host.telling.lock().await;
        let cluster = {
            let place = self.host.place();
            let Some(membership) = &place.membership else { return Ok(()) };
            let port = self.host.node().vxlan_udp_port;
            Cluster {
                node_name: self.host.gossip_name.clone(),
                data_path_addr: membership.data_path_ip,
                vxlan_port: u16::try_from(port)
                    .ok()
                    .filter(|port| *port != 0)
                    .unwrap_or(defaults::DATA_PATH_PORT),
            }
        };
        self.host.engine.net().set_cluster(Some(cluster)).await
    }
}

/// What gossip needs to know. Managers answer it at the addresses of their remote API.
fn gossip_settings(
    name: &str,
    membership: &Membership,
    keys: &[EncryptionKey],
    managers: &[ManagerAddress],
) -> GossipSettings {
    let keys = keys.iter().filter(|key| key.subsystem == GOSSIP_SUBSYSTEM);
    let address = |manager: &ManagerAddress| {
        let parsed = manager.addr.parse::<SocketAddr>();
        if parsed.is_err() {
            tracing::warn!(address = manager.addr, "a manager's address is of no use for gossip");
        }
        parsed.ok().map(|address| address.ip())
    };
    GossipSettings {
        node_name: name.to_owned(),
        listen: membership.listen_ip,
        advertise: membership.advertise_ip,
        keys: keys
            .map(|key| GossipKey { bytes: key.key.0.clone(), lamport_time: key.lamport_time })
            .collect(),
        peers: managers.iter().filter_map(address).collect(),
    }
}

#[async_trait]
impl Host for EngineExecutor {
    async fn joined(&self, membership: &Membership) -> Result<(), HostError> {
        self.host.place().membership = Some(membership.clone());
        if self.host.engine.is_adopted() {
            return Ok(self.tell_cluster().await?);
        }
        // The membership of an earlier daemon goes on, and the network keeps what it was told then.
        // To wait for all namespaces here would silence this node's agent.
        let this = Self { host: Arc::clone(&self.host) };
        tokio::spawn(async move {
            this.host.engine.adopted().await;
            if let Err(error) = this.tell_cluster().await {
                // The loop of the network tries again what it could not apply.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot tell the network about the swarm"
                );
            }
        });
        Ok(())
    }

    async fn left(&self) -> Result<(), HostError> {
        let host = &self.host;
        host.engine.adopted().await;
        workload::remove_all(&host.engine).await?;
        // Other containers go on running, without the swarm's networks.
        host.engine.withdraw_network_grants().await?;
        host.arrivals.send_replace(BTreeMap::new());
        host.files.remove_all()?;
        let _telling = host.telling.lock().await;
        *host.place() = Place::default();
        host.node.send_replace(None);
        host.engine.net().stop_gossip().await;
        Ok(host.engine.net().set_cluster(None).await?)
    }
}

#[async_trait]
impl Executor for EngineExecutor {
    async fn describe(&self) -> Result<NodeDescription, ExecError> {
        Ok(describe::description(&self.host.engine))
    }

    async fn configure(&self, node: &Node) -> Result<(), ExecError> {
        self.host.engine.adopted().await;
        let before = self.host.node.send_replace(Some(node.clone()));
        if before.is_none_or(|before| before.vxlan_udp_port != node.vxlan_udp_port) {
            self.tell_cluster().await.map_err(|source| {
                ExecError::temporary("tell the network about the swarm", source)
            })?;
        }
        // First those that go: a new network may have the VXLAN id of an old one.
        self.host.forget_overlays().await;
        for attachment in &node.attachments {
            if !overlay::is_predefined(&attachment.network) {
                self.host.know_overlay(&attachment.network).await?;
            }
        }
        Ok(())
    }

    async fn set_network_keys(
        &self,
        keys: &[EncryptionKey],
        managers: &[ManagerAddress],
    ) -> Result<(), ExecError> {
        self.host.engine.adopted().await;
        let _telling = self.host.telling.lock().await;
        let settings = {
            let place = self.host.place();
            // Left meanwhile.
            let Some(membership) = &place.membership else { return Ok(()) };
            gossip_settings(&self.host.gossip_name, membership, keys, managers)
        };
        if settings.keys.is_empty() {
            return Err(ExecError::refused("the manager gave this node no keys for gossip"));
        }
        let started = self.host.engine.net().set_gossip(settings).await;
        started.map_err(|source| ExecError::temporary("talk to the other nodes", source))
    }

    async fn controller(
        &self,
        task: &Arc<Task>,
        dependencies: &Dependencies,
    ) -> Result<Box<dyn Controller>, ExecError> {
        // Before that, a task's container cannot be told from one that is gone.
        self.host.engine.adopted().await;
        let host = Arc::clone(&self.host);
        Ok(Box::new(TaskController::new(host, Arc::clone(task), dependencies.clone())))
    }

    async fn task_containers(&self) -> Result<Vec<TaskId>, ExecError> {
        self.host.engine.adopted().await;
        Ok(workload::tasks(&self.host.engine))
    }

    async fn remove_stray(&self, task: &TaskId) -> Result<(), ExecError> {
        let engine = &self.host.engine;
        if let Some(container) = workload::find(engine, task) {
            workload::remove(engine, &container).await.map_err(|source| {
                ExecError::temporary("remove the container of an unknown task", source)
            })?;
        }
        self.host
            .files
            .remove(task)
            .map_err(|source| ExecError::temporary("remove the task's files", source))
    }
}
