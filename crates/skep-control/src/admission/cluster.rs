use std::sync::Arc;

use skep_types::{
    Annotations, Cidr, Cluster, ClusterId, ClusterSpec, Driver, IpamOptions, Nanos, Network,
    NetworkSpec, PREDEFINED_LABEL, RaftConfig, RootCa, Timestamp, Version, check, defaults,
};

use super::{ControlError, check_version, keys, task_spec};
use crate::{Action, Draft, Rng, Store, below, new_id};

/// The cluster object's name.
const CLUSTER_NAME: &str = "default";
const MIN_CERT_EXPIRY: Nanos = Nanos::from_secs(3600);
const DEFAULT_HEARTBEAT_TICK: i64 = 1;
const DEFAULT_ELECTION_TICK: i64 = 10;

/// Entries of the managers' log between two snapshots.
pub const DEFAULT_SNAPSHOT_INTERVAL: u64 = 10_000;

/// Entries that are kept behind a snapshot.
pub const DEFAULT_SLOW_FOLLOWER_ENTRIES: u64 = 500;

/// What a new swarm begins with.
#[derive(Clone, Debug, Default)]
pub struct ClusterSeed {
    /// Its certificates name it, so it is chosen before.
    pub id: ClusterId,
    pub spec: ClusterSpec,
    /// Complete: certificate, key, hash and both join tokens.
    pub root_ca: RootCa,
    /// CIDR; empty means 10.0.0.0/8.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of the subnets cut from the pools; 0 means 24.
    pub subnet_size: u32,
    /// UDP port of VXLAN; 0 means 4789.
    pub data_path_port: u32,
}

/// Which secrets an update of the cluster replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRotation {
    pub worker_join_token: bool,
    pub manager_join_token: bool,
    pub manager_unlock_key: bool,
}

/// The first objects of a swarm: the cluster, its ingress network, and the networks `bridge` and
/// `host` that every host has by itself.
///
/// # Errors
/// `FailedPrecondition` if there is a cluster already, `InvalidArgument` for a bad spec or pool.
pub fn create_cluster(
    store: &Store,
    seed: ClusterSeed,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<Vec<Action>, ControlError> {
    if store.cluster().is_some() {
        return Err(ControlError::precondition("This node is already part of a swarm"));
    }
    let mut spec = seed.spec;
    set_defaults(&mut spec);
    check_spec(store, &spec, None)?;
    let (pools, subnet_size) = check::swarm_pools(&seed.default_addr_pool, seed.subnet_size)
        .map_err(|fault| ControlError::invalid(fault.to_string()))?;
    let mut pools: Vec<String> = pools.iter().map(Cidr::to_string).collect();
    if pools.is_empty() {
        pools.push(defaults::ADDRESS_POOL.to_owned());
    }
    check_data_path_port(seed.data_path_port)?;
    let mut cluster = Cluster {
        id: seed.id,
        root_ca: seed.root_ca,
        default_addr_pool: pools,
        subnet_size,
        data_path_port: seed.data_path_port,
        encryption_key_lamport_clock: below(rng, 65536),
        ..Cluster::default()
    };
    if spec.encryption_config.auto_lock_managers {
        keys::new_unlock_key(&mut cluster, rng);
    }
    keys::add_network_keys(&mut cluster, rng);
    cluster.spec = spec;
    let mut draft = Draft::new(store, now);
    draft.put(cluster);
    draft.put(ingress_network(rng));
    for name in ["bridge", "host"] {
        draft.put(predefined_network(name, rng));
    }
    Ok(draft.finish())
}

/// Changes the swarm's settings and replaces the secrets that `rotation` names. `root_ca` is the
/// result of a change of root that the caller worked out; `None` keeps what is there.
///
/// # Errors
/// `NotFound` without a cluster, `Conflict` on an old version, `InvalidArgument` for a bad spec.
pub fn update_cluster(
    store: &Store,
    version: Version,
    mut spec: ClusterSpec,
    rotation: KeyRotation,
    root_ca: Option<RootCa>,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<Vec<Action>, ControlError> {
    let old = store.cluster().ok_or_else(|| ControlError::not_found("cluster not found"))?;
    check_version(&old.meta, version)?;
    set_defaults(&mut spec);
    check_spec(store, &spec, Some(&old.spec))?;
    let mut cluster = Cluster::clone(old);
    if let Some(root_ca) = root_ca {
        cluster.root_ca = root_ca;
    }
    let tokens = &mut cluster.root_ca.join_tokens;
    if rotation.worker_join_token {
        tokens.worker = keys::with_new_secret(&tokens.worker, rng);
    }
    if rotation.manager_join_token {
        tokens.manager = keys::with_new_secret(&tokens.manager, rng);
    }
    if !spec.encryption_config.auto_lock_managers {
        cluster.unlock_keys.clear();
    } else if cluster.unlock_keys.is_empty() || rotation.manager_unlock_key {
        keys::new_unlock_key(&mut cluster, rng);
    }
    cluster.spec = spec;
    let mut draft = Draft::new(store, now);
    draft.put(Arc::new(cluster));
    Ok(draft.finish())
}

fn set_defaults(spec: &mut ClusterSpec) {
    if spec.annotations.name.is_empty() {
        CLUSTER_NAME.clone_into(&mut spec.annotations.name);
    }
    spec.orchestration.task_history_retention_limit.get_or_insert(5);
    let raft = &mut spec.raft;
    for (value, default) in [
        (&mut raft.snapshot_interval, DEFAULT_SNAPSHOT_INTERVAL),
        (&mut raft.log_entries_for_slow_followers, DEFAULT_SLOW_FOLLOWER_ENTRIES),
    ] {
        if *value == 0 {
            *value = default;
        }
    }
    raft.keep_old_snapshots.get_or_insert(0);
    for (value, default) in [
        (&mut raft.heartbeat_tick, DEFAULT_HEARTBEAT_TICK),
        (&mut raft.election_tick, DEFAULT_ELECTION_TICK),
    ] {
        if *value == 0 {
            *value = default;
        }
    }
    if spec.dispatcher.heartbeat_period == Nanos(0) {
        spec.dispatcher.heartbeat_period = defaults::HEARTBEAT_PERIOD;
    }
    if spec.ca_config.node_cert_expiry == Nanos(0) {
        spec.ca_config.node_cert_expiry = defaults::NODE_CERT_EXPIRY;
    }
}

/// `old` is what holds now: it may be kept, whatever it is.
fn check_spec(
    store: &Store,
    spec: &ClusterSpec,
    old: Option<&ClusterSpec>,
) -> Result<(), ControlError> {
    if spec.annotations.name != CLUSTER_NAME {
        return Err(ControlError::invalid(format!(
            "invalid Name {:?}: swarm spec must be named \"default\"",
            spec.annotations.name
        )));
    }
    if spec.ca_config.node_cert_expiry < MIN_CERT_EXPIRY {
        return Err(ControlError::invalid("minimum certificate expiry time is: 1h0m0s"));
    }
    if spec.dispatcher.heartbeat_period.is_negative() {
        return Err(ControlError::invalid("heartbeat time period cannot be a negative duration"));
    }
    if spec.raft.election_tick <= spec.raft.heartbeat_tick || spec.raft.heartbeat_tick < 0 {
        return Err(ControlError::invalid(format!(
            "invalid ElectionTick {}: must be greater than HeartbeatTick {}",
            spec.raft.election_tick, spec.raft.heartbeat_tick
        )));
    }
    check_raft(&spec.raft, old.map(|old| &old.raft))?;
    if let Some(driver) = &spec.task_defaults.log_driver {
        task_spec::check_log_driver(store, driver)?;
    }
    Ok(())
}

/// Settings that would have no effect are refused: managers keep one snapshot, and choose the times of
/// their elections themselves.
fn check_raft(raft: &RaftConfig, old: Option<&RaftConfig>) -> Result<(), ControlError> {
    let keeps = |raft: &RaftConfig| raft.keep_old_snapshots.unwrap_or(0);
    if keeps(raft) != 0 && old.is_none_or(|old| keeps(old) != keeps(raft)) {
        return Err(ControlError::invalid(
            "managers keep one snapshot of their log: KeepOldSnapshots (--max-snapshots) must be 0",
        ));
    }
    let ticks = |raft: &RaftConfig| (raft.heartbeat_tick, raft.election_tick);
    let default = (DEFAULT_HEARTBEAT_TICK, DEFAULT_ELECTION_TICK);
    if ticks(raft) != default && old.is_none_or(|old| ticks(old) != ticks(raft)) {
        return Err(ControlError::invalid(
            "managers choose the times of their elections themselves: HeartbeatTick must be 1 and \
             ElectionTick 10",
        ));
    }
    Ok(())
}

fn check_data_path_port(port: u32) -> Result<(), ControlError> {
    if port == 0 || defaults::DATA_PATH_PORTS.contains(&port) {
        Ok(())
    } else {
        Err(ControlError::invalid(format!(
            "invalid data path port {port}: must be between 1024 and 49151 (0: the default 4789)"
        )))
    }
}

fn ingress_network(rng: &mut dyn Rng) -> Network {
    Network {
        id: new_id(rng),
        spec: NetworkSpec {
            annotations: Annotations { name: "ingress".to_owned(), ..Annotations::default() },
            ingress: true,
            ipam: Some(IpamOptions::default()),
            ..NetworkSpec::default()
        },
        ..Network::default()
    }
}

fn predefined_network(name: &str, rng: &mut dyn Rng) -> Network {
    let labels = [(PREDEFINED_LABEL.to_owned(), "true".to_owned())].into();
    let driver = Driver { name: name.to_owned(), ..Driver::default() };
    Network {
        id: new_id(rng),
        spec: NetworkSpec {
            annotations: Annotations { name: name.to_owned(), labels },
            driver_configuration: driver.clone(),
            ..NetworkSpec::default()
        },
        driver_state: driver,
        ..Network::default()
    }
}
