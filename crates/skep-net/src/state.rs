//! What all parts of the network room share: the world, held ports, what is wrong.

use crate::apply::{Handles, Traffic};
use crate::config::NetConfig;
use crate::dns::{Directory, SandboxView, Upstream};
use crate::error::Result;
use crate::files::{self, Durability};
use crate::ids::{NetworkId, SandboxId};
use crate::metrics::Metrics;
use crate::model::{BlockedPorts, Network};
use crate::name_files::HostResolvConf;
use crate::plan::NsName;
use crate::ports::Ports;
use crate::sandbox_files::{SandboxFiles, Sandboxes};
use crate::world::{NameIndex, Running, World};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
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
    pub traffic: Arc<Traffic>,
    /// Ports of the routing mesh that something else holds.
    pub blocked: watch::Sender<BlockedPorts>,
    /// Gossip names of the other nodes that answer, by address.
    pub nodes: Mutex<BTreeMap<IpAddr, String>>,
    state: Mutex<State>,
    names: Mutex<(u64, Arc<NameIndex>)>,
    resolv_conf: HostResolvConf,
    changed: watch::Sender<u64>,
}

/// What could not be read at start.
#[derive(Debug, Default)]
pub struct Found {
    pub networks: BTreeMap<NetworkId, Network>,
    /// What their file holds; `None` if there is none that can be read.
    pub stored_networks: Option<BTreeMap<NetworkId, Network>>,
    /// Their file, if it cannot be read and the disk does not let it be set aside.
    pub unread_networks: Option<PathBuf>,
    pub running: Running,
    /// Those of its sandboxes that have files of their own.
    pub stored_sandboxes: Sandboxes,
}

/// The local networks on disk.
#[derive(Serialize, Deserialize)]
struct StoredNetworks {
    networks: BTreeMap<NetworkId, Network>,
}

/// What is running on disk. Of another boot it means nothing.
#[derive(Serialize, Deserialize)]
struct StoredRunning<'a> {
    boot: String,
    running: Cow<'a, Running>,
    /// The local networks once more, so that what runs goes on if their own file is damaged.
    #[serde(default)]
    networks: Cow<'a, BTreeMap<NetworkId, Network>>,
}

impl Shared {
    pub fn new(config: NetConfig, handles: Handles, world: World, traffic: Arc<Traffic>) -> Self {
        let state = State { world, ports: Ports::default(), version: 1 };
        Self {
            config,
            handles,
            problems: Mutex::default(),
            metrics: Metrics::default(),
            traffic,
            blocked: watch::Sender::default(),
            nodes: Mutex::default(),
            state: Mutex::new(state),
            names: Mutex::default(),
            resolv_conf: HostResolvConf::default(),
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
        let result = change(&mut state);
        // Also where it failed: it may have come half-way, and plans are made anew for another version only.
        state.version += 1;
        self.changed.send_replace(state.version);
        result
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

    /// Reads what an earlier daemon stored. A file that cannot be read is set aside: of what runs the
    /// generation before is taken, of the networks the copy beside what runs.
    pub fn load(config: &NetConfig) -> Result<Found> {
        let file = Self::running_file(config);
        let mut running = files::read_or_set_aside::<StoredRunning<'_>>(&file);
        if running.is_none() {
            running = files::read_or_set_aside(&before(&file));
        }
        let boot = files::boot_id()?;
        let running = running.filter(|r| r.boot == boot);
        let (mut running, copy) = running
            .map(|stored| (stored.running.into_owned(), stored.networks.into_owned()))
            .unwrap_or_default();
        let stored_sandboxes = SandboxFiles::open(config)?.load()?;
        // What is in the file of all is of a daemon that knew no others.
        running.sandboxes.extend(stored_sandboxes.clone());
        let file = Self::networks_file(config);
        let mut in_the_way = None;
        let (networks, stored) = match files::read_json::<StoredNetworks>(&file) {
            // None at all is a first start, or one with a file that was taken away.
            Ok(None) => (copy, None),
            Ok(Some(StoredNetworks { networks })) => (networks.clone(), Some(networks)),
            Err(error) => {
                in_the_way = (files::set_aside(&file, &error) == file).then(|| file.clone());
                (copy, None)
            }
        };
        Ok(Found {
            networks,
            stored_networks: stored,
            unread_networks: in_the_way,
            running,
            stored_sandboxes,
        })
    }

    /// Stores the local networks. Some that could not be read, and not be set aside then, are set aside first.
    pub fn store_networks(&self, networks: &BTreeMap<NetworkId, Network>) -> Result<()> {
        let stored = StoredNetworks { networks: networks.clone() };
        let file = Self::networks_file(&self.config);
        files::keep_unreadable::<StoredNetworks>(&file)?;
        files::replace_json(&file, &stored, Durability::Lasting)
    }

    /// Stores what is running, but for the sandboxes.
    pub fn store_running(
        &self,
        running: &Running,
        networks: &BTreeMap<NetworkId, Network>,
    ) -> Result<()> {
        let stored = StoredRunning {
            boot: files::boot_id()?,
            running: Cow::Borrowed(running),
            networks: Cow::Borrowed(networks),
        };
        let file = Self::running_file(&self.config);
        keep_before(&file);
        files::replace_json(&file, &stored, Durability::Volatile)
    }
}

impl Directory for Shared {
    fn view(&self, sandbox: &SandboxId) -> Option<SandboxView> {
        let names = self.names();
        let networks = self.read(|world| {
            let found = world.sandbox(sandbox)?;
            Some(found.endpoints.iter().map(|e| e.network.clone()).collect())
        })?;
        Some(SandboxView { names, networks })
    }

    fn upstream(&self, sandbox: &SandboxId) -> Option<Upstream> {
        let (way_out, own) = self.read(|world| {
            let found = world.sandbox(sandbox)?;
            Some((found.gateway(world).is_some(), found.spec.dns.servers.clone()))
        })?;
        if !way_out {
            return Some(Upstream { servers: Vec::new(), namespace: None });
        }
        if own.is_empty() {
            let host = self.resolv_conf.read(&self.config.resolv_conf);
            let servers = host.as_ref().clone().with(&Default::default(), &self.config.dns).servers;
            return Some(Upstream { servers, namespace: None });
        }
        let namespace = lock(&self.handles).get(&NsName::Sandbox(sandbox.clone())).cloned();
        Some(Upstream { servers: own, namespace })
    }
}

/// A lock whose holder panicked still guards valid data: every change is made whole
/// or not at all.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the generation before of a file is.
fn before(file: &Path) -> PathBuf {
    file.with_extension("json.before")
}

/// Keeps a file that is about to be replaced as the generation before. Not being able to is no reason not to
/// replace it.
fn keep_before(file: &Path) {
    let before = before(file);
    let kept = skep_sys::files::rename(file, &before, Durability::Volatile);
    if let Err(error) = kept
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %before.display(), %error, "cannot keep a state file's generation before");
    }
}
