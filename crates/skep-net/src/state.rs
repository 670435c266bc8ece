//! What all parts of the network room share: the world, held ports, what is wrong.

use crate::config::NetConfig;
use crate::dns::{Directory, SandboxView, Upstream};
use crate::error::{NetError, Result};
use crate::files::{self, Durability};
use crate::ids::{NetworkId, SandboxId};
use crate::metrics::Metrics;
use crate::model::{BlockedPorts, Network};
use crate::plan::NsName;
use crate::ports::Ports;
use crate::world::{NameIndex, Running, World};
use crate::{apply::Handles, name_files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Behind one lock, because ports and world change together.
#[derive(Debug)]
pub struct State {
    pub world: World,
    pub ports: Ports,
    /// Counts changes of the world.
    pub version: u64,
}

/// What could not be put right.
#[derive(Debug, Default)]
pub struct Problems {
    pub namespaces: BTreeMap<NsName, String>,
    /// Networks and routes of the host that keep something from each other.
    pub collisions: Vec<String>,
    pub other: Vec<String>,
}

/// Shared by the handle, the controller and the resolver.
pub struct Shared {
    pub config: NetConfig,
    pub handles: Handles,
    pub problems: Mutex<Problems>,
    pub metrics: Metrics,
    /// Ports of the routing mesh that something else holds.
    pub blocked: watch::Sender<BlockedPorts>,
    /// Gossip names of the other nodes that answer, by address.
    pub nodes: Mutex<BTreeMap<IpAddr, String>>,
    state: Mutex<State>,
    names: Mutex<(u64, Arc<NameIndex>)>,
    changed: watch::Sender<u64>,
}

/// The local networks on disk.
#[derive(Serialize, Deserialize)]
struct StoredNetworks {
    networks: BTreeMap<NetworkId, Network>,
}

/// What is running on disk. Of another boot it means nothing.
#[derive(Serialize, Deserialize)]
struct StoredRunning {
    boot: String,
    running: Running,
}

impl Shared {
    pub fn new(config: NetConfig, handles: Handles, world: World) -> Self {
        let state = State { world, ports: Ports::default(), version: 1 };
        Self {
            config,
            handles,
            problems: Mutex::default(),
            metrics: Metrics::default(),
            blocked: watch::Sender::default(),
            nodes: Mutex::default(),
            state: Mutex::new(state),
            names: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Reads.
    pub fn read<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&self.lock().world)
    }

    /// Changes. A change that fails must leave the world as it was.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        let result = change(&mut state)?;
        state.version += 1;
        self.changed.send_replace(state.version);
        Ok(result)
    }

    /// The state itself, for the controller.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Told after every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The names as they are now.
    pub fn names(&self) -> Arc<NameIndex> {
        let state = self.lock();
        let mut cached = lock(&self.names);
        if cached.0 != state.version {
            *cached = (state.version, Arc::new(state.world.names()));
        }
        Arc::clone(&cached.1)
    }

    /// Where the local networks are stored.
    pub fn networks_file(config: &NetConfig) -> PathBuf {
        config.data_root.join("network").join("networks.json")
    }

    /// Where what is running is stored.
    pub fn running_file(config: &NetConfig) -> PathBuf {
        config.exec_root.join("net").join("running.json")
    }

    /// Reads what an earlier daemon stored.
    pub fn load(config: &NetConfig) -> Result<(BTreeMap<NetworkId, Network>, Running)> {
        let networks: Option<StoredNetworks> = files::read_json(&Self::networks_file(config))?;
        let running: Option<StoredRunning> = files::read_json(&Self::running_file(config))?;
        let boot = boot_id()?;
        let running = running.filter(|r| r.boot == boot).map(|r| r.running).unwrap_or_default();
        Ok((networks.map(|n| n.networks).unwrap_or_default(), running))
    }

    /// Stores the local networks.
    pub fn store_networks(&self, networks: &BTreeMap<NetworkId, Network>) -> Result<()> {
        let stored = StoredNetworks { networks: networks.clone() };
        files::replace_json(&Self::networks_file(&self.config), &stored, Durability::Lasting)
    }

    /// Stores what is running.
    pub fn store_running(&self, running: Running) -> Result<()> {
        let stored = StoredRunning { boot: boot_id()?, running };
        files::replace_json(&Self::running_file(&self.config), &stored, Durability::Volatile)
    }
}

impl Directory for Shared {
    fn view(&self, sandbox: &SandboxId) -> Option<SandboxView> {
        let names = self.names();
        let (networks, way_out, own) = self.read(|world| {
            let found = world.sandbox(sandbox)?;
            let networks = found.endpoints.iter().map(|e| e.network.clone()).collect();
            Some((networks, found.gateway(world).is_some(), found.spec.dns.servers.clone()))
        })?;
        let upstream = if !way_out {
            Upstream { servers: Vec::new(), namespace: None }
        } else if own.is_empty() {
            let servers = match name_files::host_resolv_conf(&self.config.resolv_conf) {
                Ok(conf) => conf.with(&Default::default(), &self.config.dns).servers,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot read the host's name servers"
                    );
                    Vec::new()
                }
            };
            Upstream { servers, namespace: None }
        } else {
            let namespace = lock(&self.handles).get(&NsName::Sandbox(sandbox.clone())).cloned();
            Upstream { servers: own, namespace }
        };
        Some(SandboxView { names, networks, upstream })
    }
}

/// A lock whose holder panicked still guards valid data: every change is made whole
/// or not at all.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn boot_id() -> Result<String> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    std::fs::read_to_string(&path).map_err(|source| NetError::File { action: "read", path, source })
}
