//! The handle: every operation of the network room.

mod gossip;
mod networks;
mod sandboxes;
mod swarm;
mod talk;
mod trace;

pub use crate::controller::ReconcileReport;

use crate::apply::HostClaim;
use crate::apply::neighbours;
use crate::apply::{Netlink, Nft, Spaces, Traffic, TrafficCounts, links};
use crate::checks::{self, Check};
use crate::config::NetConfig;
use crate::controller::{Controller, Interest, Results};
use crate::dns::Resolver;
use crate::error::{NetError, Result};
use crate::files;
use crate::host_routes;
use crate::ids::{NetworkId, hex_id};
use crate::model::{BlockedPorts, Driver, option_keys};
use crate::plan::NsName;
use crate::sandbox_files::SandboxFiles;
use crate::state::{Found, Shared, lock};
use crate::storing::Storing;
use crate::world::{Facts, GATEWAY_NETWORK, World};
use gossip::WeakNet;
use rand::RngCore as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use talk::Talk;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// A host's network. Clones share one.
///
/// Methods must be called inside a tokio runtime. They are cancel safe in the sense
/// that the change, once begun, is carried through in the background.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    controller: Controller,
    resolver: Resolver,
    checks: Vec<Check>,
    /// The conversation with the other nodes, while this host is in a swarm.
    talk: tokio::sync::Mutex<Option<Talk>>,
    /// Why there is none, when it could not begin.
    mute: std::sync::Mutex<Option<String>>,
    _claim: HostClaim,
}

impl Net {
    /// Opens the network of this host (the process's network namespace), and compares it with the
    /// kernel: [`Net::open`], then [`Net::bring_up`].
    ///
    /// # Errors
    /// As [`Net::open`].
    pub async fn start(config: NetConfig) -> Result<Self> {
        let net = Self::open(config).await?;
        net.bring_up().await;
        Ok(net)
    }

    /// Opens the network of this host (the process's network namespace).
    ///
    /// Reads its state files and makes the predefined networks. What this costs does not grow with
    /// the namespaces that an earlier daemon left; those are kept as they are, and work, until
    /// [`Net::bring_up`] compares them with the kernel and [`Net::adopt`] says which are in use.
    ///
    /// # Errors
    ///
    /// Fails when a folder or state file cannot be read or written, or when the
    /// default bridge cannot have its address. A kernel that lacks something does
    /// not fail it: see [`Net::checks`] and [`Net::problems`].
    pub async fn open(config: NetConfig) -> Result<Self> {
        let claim = spawn_blocking(HostClaim::take).await.map_err(|_| NetError::Closed)??;
        Self::open_claimed(config, claim).await
    }

    /// The same for who has claimed the host before, so as to make nothing if another daemon has it.
    ///
    /// # Errors
    ///
    /// As [`Net::open`].
    pub async fn open_claimed(config: NetConfig, claim: HostClaim) -> Result<Self> {
        let prepared =
            spawn_blocking(move || prepare(config, claim)).await.map_err(|_| NetError::Closed)?;
        let Prepared { claim, shared, spaces, storing, checks } = prepared?;
        let shared = Arc::new(shared);
        let controller = Controller::start(Arc::clone(&shared), spaces, storing)?;
        let resolver = Resolver::new(Arc::clone(&shared) as Arc<dyn crate::dns::Directory>);
        let inner = Inner {
            shared,
            controller,
            resolver,
            checks,
            talk: tokio::sync::Mutex::default(),
            mute: std::sync::Mutex::default(),
            _claim: claim,
        };
        let net = Self { inner: Arc::new(inner) };
        net.restore_ports();
        Ok(net)
    }

    /// The first comparison of all namespaces with the kernel, with repairs.
    pub async fn bring_up(&self) {
        let report = self.reconcile().await;
        tracing::info!(
            namespaces = report.namespaces,
            repairs = report.repairs,
            failures = report.failures,
            "network started"
        );
    }

    /// What the kernel offers, as found at start.
    pub fn checks(&self) -> Vec<Check> {
        self.inner.checks.clone()
    }

    /// Compares every namespace's plan with the kernel and repairs, now.
    pub async fn reconcile(&self) -> ReconcileReport {
        match self.inner.controller.converge(Interest::Verified).await {
            Ok(results) => ReconcileReport::of(&results),
            // Only a state that cannot be stored, or the end, comes here; both are logged.
            Err(_) => ReconcileReport { failures: 1, ..ReconcileReport::default() },
        }
    }

    /// What is wrong at the moment and was not repaired, for people: ports of the
    /// routing mesh that something else holds, namespaces that could not be applied, networks that
    /// hide a route of the host.
    pub fn problems(&self) -> Vec<String> {
        let problems = lock(&self.inner.shared.problems);
        let blocked = self.shared().blocked.borrow();
        let ports = blocked.iter().map(|((protocol, port), blocked)| {
            format!(
                "published port {port}/{protocol} of service {} is not served by this host: {}",
                blocked.service_name, blocked.reason
            )
        });
        let spaces = problems
            .namespaces
            .iter()
            .map(|(name, error)| format!("network namespace {name}: {error}"));
        let collisions = problems.collisions.iter().cloned();
        ports.chain(spaces).chain(collisions).chain(problems.other.iter().cloned()).collect()
    }

    /// The ports of the routing mesh that something else on this host holds, as they change. Each is
    /// tried again until it is free.
    pub fn blocked_ports(&self) -> watch::Receiver<BlockedPorts> {
        self.shared().blocked.subscribe()
    }

    /// What was said to the kernel since the start.
    pub fn traffic(&self) -> TrafficCounts {
        self.shared().traffic.counts()
    }

    /// What was counted since the start, as Prometheus text.
    pub fn metrics(&self) -> String {
        let mut text = self.shared().metrics.render(&self.traffic());
        // Only held while gossip starts or ends; then there is nothing to tell.
        if let Ok(slot) = self.inner.talk.try_lock()
            && let Some(talk) = slot.as_ref()
        {
            text.push_str(&talk.metrics());
        }
        text
    }

    /// Ends the resolver and the verification loop. Nothing in the kernel changes.
    pub async fn shutdown(&self) {
        self.inner.resolver.stop_all();
        let inner = Arc::clone(&self.inner);
        if spawn_blocking(move || inner.controller.stop()).await.is_err() {
            tracing::error!("the network's loop could not be stopped");
        }
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Waits until these namespaces are as planned, and tells which could not be made so.
    async fn bring(&self, names: BTreeSet<NsName>) -> Result<Results> {
        self.inner.controller.converge(Interest::Only(names)).await
    }

    /// The same; fails with the first that could not.
    async fn converge(&self, names: impl IntoIterator<Item = NsName>) -> Result<()> {
        first_error(self.bring(names.into_iter().collect()).await?)
    }

    /// The same for what is acknowledged only once it is on disk.
    async fn converge_stored(&self, names: impl IntoIterator<Item = NsName>) -> Result<()> {
        let names: BTreeSet<NsName> = names.into_iter().collect();
        first_error(self.inner.controller.converge(Interest::Stored(names)).await?)
    }

    /// Binds the ports again that containers of an earlier daemon publish. One that
    /// something else took meanwhile still works for the container, for the rules
    /// stand; it is told as a problem.
    fn restore_ports(&self) {
        let mut state = self.shared().lock();
        let published: Vec<_> = state
            .world
            .running
            .sandboxes
            .values()
            .flat_map(|s| {
                s.ports
                    .iter()
                    .map(|p| (s.spec.id.clone(), s.spec.container_name.clone(), p.clone()))
            })
            .collect();
        for (id, name, binding) in published {
            if let Err(error) = state.ports.restore(&id, &name, &binding) {
                tracing::error!(
                    container = name,
                    error = &error as &dyn std::error::Error,
                    "lost a published port"
                );
                lock(&self.shared().problems).other.push(format!("container {name}: {error}"));
            }
        }
    }
}

/// The first namespace that could not be brought into its planned state.
fn first_error(
    results: impl IntoIterator<Item = (NsName, Result<usize, Arc<NetError>>)>,
) -> Result<()> {
    for (name, result) in results {
        result.map_err(|source| NetError::Apply { namespace: name.to_string(), source })?;
    }
    Ok(())
}

struct Prepared {
    claim: HostClaim,
    shared: Shared,
    spaces: Spaces,
    storing: Storing,
    checks: Vec<Check>,
}

/// Opens, reads, checks. Blocks.
fn prepare(config: NetConfig, claim: HostClaim) -> Result<Prepared> {
    let traffic = Arc::<Traffic>::default();
    let nft = Nft { program: config.nft.clone(), traffic: Arc::clone(&traffic) };
    for folder in [config.data_root.join("network"), config.exec_root.join("net")] {
        files::own_folder(&folder)?;
    }
    let checks = checks::run(&nft);
    for check in checks.iter().filter(|c| !c.available) {
        tracing::warn!(
            feature = check.feature,
            detail = check.detail,
            disables = check.disables,
            "missing on this host"
        );
    }
    neighbours::check_rules(&nft, &config.data_root)?;
    let spaces = Spaces::open(
        config.exec_root.join("netns"),
        config.exec_root.join("net").join("rules"),
        nft,
    )?;
    let Found { networks, stored_networks, unread_networks, running, stored_sandboxes } =
        Shared::load(&config)?;
    let storing = Storing::new(SandboxFiles::open(&config)?, stored_networks, stored_sandboxes);
    let facts = Facts {
        mtu: config.mtu,
        underlay_mtu: links::ETHERNET_MTU,
        pools: config.pools(),
        host_routes: Vec::new(),
        default_binding: config.default_binding,
        blocked_ports: BTreeSet::new(),
        socket_match: checks.iter().any(|c| c.feature == checks::SOCKET && c.available),
        claims: host_routes::claims(&mut open_netlink(&traffic)?, &config)?,
        owner: neighbours::owner(&config.data_root),
    };
    let mut world = World::new(facts);
    world.networks = networks;
    world.running = running;
    world.facts.host_routes = host_routes::of_host(
        &mut open_netlink(&traffic)?,
        &world.bridge_names(),
        &config.resolv_conf,
    )?;
    let bridge = &config.default_bridge;
    let options = BTreeMap::from([
        (option_keys::BRIDGE_NAME.to_owned(), bridge.name.clone()),
        (option_keys::DEFAULT_BRIDGE.to_owned(), "true".to_owned()),
        (option_keys::ICC.to_owned(), bridge.icc.to_string()),
        (option_keys::MASQUERADE.to_owned(), bridge.masquerade.to_string()),
        (option_keys::HOST_BINDING.to_owned(), config.default_binding.to_string()),
        (option_keys::MTU.to_owned(), config.mtu.to_string()),
    ]);
    let now = now_unix_nanos();
    world.ensure_predefined(
        new_network_id(),
        now,
        "bridge",
        Driver::Bridge,
        options.clone(),
        bridge.address,
    )?;
    world.configure_default_bridge(options, bridge.address);
    world.review_predefined("bridge", bridge.address.is_some())?;
    world.review_predefined(GATEWAY_NETWORK, false)?;
    world.ensure_predefined(new_network_id(), now, "host", Driver::Host, BTreeMap::new(), None)?;
    world.ensure_predefined(new_network_id(), now, "none", Driver::Null, BTreeMap::new(), None)?;
    let handles = spaces.handles();
    let shared = Shared::new(config, handles, world, traffic);
    if let Some(path) = unread_networks {
        lock(&shared.problems).other.push(format!(
            "networks cannot be read and are kept in {}; the disk does not let the file be set aside, so that no \
             network can be made or removed",
            path.display()
        ));
    }
    Ok(Prepared { claim, shared, spaces, storing, checks })
}

/// A connection to the kernel in the calling thread's namespace.
fn open_netlink(traffic: &Arc<Traffic>) -> Result<Netlink> {
    Netlink::open(traffic).map_err(|source| NetError::Netlink {
        action: "open netlink".to_owned(),
        namespace: NsName::Host.to_string(),
        source,
    })
}

/// 32 bytes of chance as 64 hex characters.
fn new_id() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex_id(&bytes)
}

fn new_network_id() -> NetworkId {
    NetworkId::new(new_id())
}

/// Nanoseconds since 1970-01-01 UTC. A clock before that counts as then.
fn now_unix_nanos() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
