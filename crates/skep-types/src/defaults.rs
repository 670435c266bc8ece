//! What Docker takes where the user says nothing.
//!
//! A default that two rooms know stands here; one that a single room needs stands there.

use std::ops::RangeInclusive;

use crate::Nanos;

/// Between the stop signal of a container and its end by force.
pub const STOP_GRACE: Nanos = Nanos::from_secs(10);

/// Before a task that ended is replaced.
pub const RESTART_DELAY: Nanos = Nanos::from_secs(5);

/// How many tasks an update replaces at a time, where there is no update config at all. One that says 0 means all.
pub const UPDATE_PARALLELISM: u64 = 1;

/// How long an update watches a new task for failure.
pub const UPDATE_MONITOR: Nanos = Nanos::from_secs(5);

/// The swarm's period of heartbeats (`--dispatcher-heartbeat`).
pub const HEARTBEAT_PERIOD: Nanos = Nanos::from_secs(5);

/// How long a node's certificate is valid (`--cert-expiry`): 90 days.
pub const NODE_CERT_EXPIRY: Nanos = Nanos::from_secs(90 * 24 * 3600);

/// Size of a container's `/dev/shm`, in bytes.
pub const SHM_SIZE: u64 = 64 << 20;

/// Where the swarm's networks get their subnets (`--default-addr-pool`).
pub const ADDRESS_POOL: &str = "10.0.0.0/8";

/// Prefix length of those subnets (`--default-addr-pool-mask-length`).
pub const SUBNET_SIZE: u32 = 24;

/// The largest such prefix length: a network needs room for its gateway, a VIP and a task.
pub const MAX_SUBNET_SIZE: u32 = 29;

/// UDP port of VXLAN (`--data-path-port`).
pub const DATA_PATH_PORT: u16 = 4789;

/// What that port may be: below are reserved ports, above are the host's ephemeral ones.
pub const DATA_PATH_PORTS: RangeInclusive<u32> = 1024..=49151;
