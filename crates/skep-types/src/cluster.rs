use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Annotations, Bytes64, ClusterId, Driver, Meta, Nanos, StringMap, Timestamp, is_default,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OrchestrationConfig {
    /// Ended tasks kept per slot; `None` is 5, negative keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_history_retention_limit: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RaftConfig {
    /// Entries between snapshots; 0 is the default of 10000.
    #[serde(skip_serializing_if = "is_default")]
    pub snapshot_interval: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_old_snapshots: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub log_entries_for_slow_followers: u64,
    /// In ticks of one second.
    pub election_tick: i64,
    pub heartbeat_tick: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DispatcherConfig {
    /// Zero is the default of 5 s.
    #[serde(skip_serializing_if = "is_default")]
    pub heartbeat_period: Nanos,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExternalCa {
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: String,
    #[serde(rename = "URL")]
    pub url: String,
    #[serde(skip_serializing_if = "is_default")]
    pub options: StringMap,
    /// PEM.
    #[serde(rename = "CACert", skip_serializing_if = "is_default")]
    pub ca_cert: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CaConfig {
    /// Validity of node certificates; zero is the default of 90 days, less than an hour too.
    #[serde(skip_serializing_if = "is_default")]
    pub node_cert_expiry: Nanos,
    #[serde(rename = "ExternalCAs", skip_serializing_if = "is_default")]
    pub external_cas: Vec<ExternalCa>,
    /// PEM.
    #[serde(rename = "SigningCACert", skip_serializing_if = "is_default")]
    pub signing_ca_cert: String,
    /// PEM.
    #[serde(rename = "SigningCAKey", skip_serializing_if = "is_default")]
    pub signing_ca_key: String,
    #[serde(skip_serializing_if = "is_default")]
    pub force_rotate: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskDefaults {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EncryptionConfig {
    pub auto_lock_managers: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClusterSpec {
    #[serde(flatten)]
    pub annotations: Annotations,
    pub orchestration: OrchestrationConfig,
    pub raft: RaftConfig,
    pub dispatcher: DispatcherConfig,
    #[serde(rename = "CAConfig")]
    pub ca_config: CaConfig,
    pub task_defaults: TaskDefaults,
    pub encryption_config: EncryptionConfig,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JoinTokens {
    pub worker: String,
    pub manager: String,
}

/// A change of root under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootRotation {
    /// PEM, as are the others.
    pub ca_cert: Bytes64,
    pub ca_key: Bytes64,
    /// The new root's key signed by the old root.
    pub cross_signed_ca_cert: Bytes64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootCa {
    /// PEM of the signing key; empty with an external CA.
    pub ca_key: Bytes64,
    /// PEM; the join tokens' digest is over exactly these bytes.
    pub ca_cert: Bytes64,
    pub ca_cert_hash: String,
    pub join_tokens: JoinTokens,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_rotation: Option<RootRotation>,
    pub last_forced_rotation: u64,
}

/// A key of the swarm's networks or of a manager's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EncryptionKey {
    /// `networking:gossip`, `networking:ipsec` or `manager`.
    pub subsystem: String,
    pub key: Bytes64,
    /// Tells keys apart; unique over all subsystems.
    pub lamport_time: u64,
}

/// The swarm. There is one, named `default`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cluster {
    #[serde(rename = "ID")]
    pub id: ClusterId,
    #[serde(flatten)]
    pub meta: Meta,
    pub spec: ClusterSpec,
    pub default_addr_pool: Vec<String>,
    pub subnet_size: u32,
    pub data_path_port: u32,
    #[serde(rename = "_rootCa")]
    pub root_ca: RootCa,
    #[serde(rename = "_networkBootstrapKeys")]
    pub network_bootstrap_keys: Vec<EncryptionKey>,
    #[serde(rename = "_encryptionKeyLamportClock")]
    pub encryption_key_lamport_clock: u64,
    /// Network keys with a `lamport_time` up to this one are known to somebody who was removed: they go
    /// as fast as nodes can follow. Of our managers only; Docker's messages do not have it.
    #[serde(rename = "_exposedNetworkKeys", skip_serializing_if = "is_default")]
    pub exposed_network_keys: u64,
    /// Common names refused until the given moment.
    #[serde(rename = "_blacklistedCertificates", skip_serializing_if = "is_default")]
    pub blacklisted_certificates: BTreeMap<String, Timestamp>,
    #[serde(rename = "_unlockKeys", skip_serializing_if = "is_default")]
    pub unlock_keys: Vec<EncryptionKey>,
}
