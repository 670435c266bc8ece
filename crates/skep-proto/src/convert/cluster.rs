use skep_types as t;

use super::util::{
    Result, clamp_u32, duration_unless_zero, into_or_default, list, maybe, nanos_or_zero, owned,
    pb_timestamp, timestamp_or_zero, try_list, try_or_default, utf8,
};
use crate::{ConvertError, v1 as pb};

/// The one protocol of external CAs.
const CFSSL: &str = "cfssl";

/// Ended tasks kept per slot when a user does not say.
const TASK_HISTORY: i64 = 5;

impl From<&t::ExternalCa> for pb::ExternalCa {
    fn from(ca: &t::ExternalCa) -> Self {
        Self {
            protocol: pb::external_ca::CaProtocol::Cfssl.into(),
            url: ca.url.clone(),
            options: ca.options.clone(),
            ca_cert: ca.ca_cert.clone().into_bytes(),
        }
    }
}

impl TryFrom<pb::ExternalCa> for t::ExternalCa {
    type Error = ConvertError;

    fn try_from(ca: pb::ExternalCa) -> Result<Self> {
        if pb::external_ca::CaProtocol::try_from(ca.protocol).is_err() {
            return Err(ConvertError::UnknownEnum {
                field: "protocol".to_owned(),
                kind: "CA protocol",
                value: ca.protocol,
            });
        }
        Ok(Self {
            protocol: CFSSL.to_owned(),
            url: ca.url,
            options: ca.options,
            ca_cert: utf8("ca_cert", ca.ca_cert)?,
        })
    }
}

impl From<&t::CaConfig> for pb::CaConfig {
    fn from(config: &t::CaConfig) -> Self {
        Self {
            node_cert_expiry: duration_unless_zero(config.node_cert_expiry),
            external_cas: list(&config.external_cas),
            signing_ca_cert: config.signing_ca_cert.clone().into_bytes(),
            signing_ca_key: config.signing_ca_key.clone().into_bytes(),
            force_rotate: config.force_rotate,
        }
    }
}

impl TryFrom<pb::CaConfig> for t::CaConfig {
    type Error = ConvertError;

    fn try_from(config: pb::CaConfig) -> Result<Self> {
        Ok(Self {
            node_cert_expiry: nanos_or_zero("node_cert_expiry", config.node_cert_expiry)?,
            external_cas: try_list("external_cas", config.external_cas)?,
            signing_ca_cert: utf8("signing_ca_cert", config.signing_ca_cert)?,
            signing_ca_key: utf8("signing_ca_key", config.signing_ca_key)?,
            force_rotate: config.force_rotate,
        })
    }
}

impl From<&t::RaftConfig> for pb::RaftConfig {
    fn from(config: &t::RaftConfig) -> Self {
        Self {
            snapshot_interval: config.snapshot_interval,
            keep_old_snapshots: config.keep_old_snapshots.unwrap_or_default(),
            log_entries_for_slow_followers: config.log_entries_for_slow_followers,
            heartbeat_tick: clamp_u32(config.heartbeat_tick),
            election_tick: clamp_u32(config.election_tick),
        }
    }
}

impl From<pb::RaftConfig> for t::RaftConfig {
    fn from(config: pb::RaftConfig) -> Self {
        Self {
            snapshot_interval: config.snapshot_interval,
            keep_old_snapshots: Some(config.keep_old_snapshots),
            log_entries_for_slow_followers: config.log_entries_for_slow_followers,
            election_tick: i64::from(config.election_tick),
            heartbeat_tick: i64::from(config.heartbeat_tick),
        }
    }
}

impl From<&t::ClusterSpec> for pb::ClusterSpec {
    #[expect(deprecated, reason = "the acceptance policy is always on the wire, and empty")]
    fn from(spec: &t::ClusterSpec) -> Self {
        let history = spec.orchestration.task_history_retention_limit;
        Self {
            annotations: Some((&spec.annotations).into()),
            acceptance_policy: Some(pb::AcceptancePolicy::default()),
            orchestration: Some(pb::OrchestrationConfig {
                task_history_retention_limit: history.unwrap_or(TASK_HISTORY),
            }),
            raft: Some((&spec.raft).into()),
            dispatcher: Some(pb::DispatcherConfig {
                heartbeat_period: duration_unless_zero(spec.dispatcher.heartbeat_period),
            }),
            ca_config: Some((&spec.ca_config).into()),
            task_defaults: Some(pb::TaskDefaults {
                log_driver: maybe(&spec.task_defaults.log_driver),
            }),
            encryption_config: Some(pb::EncryptionConfig {
                auto_lock_managers: spec.encryption_config.auto_lock_managers,
            }),
        }
    }
}

impl TryFrom<pb::ClusterSpec> for t::ClusterSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::ClusterSpec) -> Result<Self> {
        let period = spec.dispatcher.and_then(|dispatcher| dispatcher.heartbeat_period);
        let log_driver = spec.task_defaults.and_then(|defaults| defaults.log_driver);
        Ok(Self {
            annotations: into_or_default(spec.annotations),
            orchestration: t::OrchestrationConfig {
                task_history_retention_limit: spec
                    .orchestration
                    .map(|o| o.task_history_retention_limit),
            },
            raft: into_or_default(spec.raft),
            dispatcher: t::DispatcherConfig {
                heartbeat_period: nanos_or_zero("dispatcher.heartbeat_period", period)?,
            },
            ca_config: try_or_default("ca_config", spec.ca_config)?,
            task_defaults: t::TaskDefaults { log_driver: log_driver.map(Into::into) },
            encryption_config: t::EncryptionConfig {
                auto_lock_managers: spec.encryption_config.is_some_and(|e| e.auto_lock_managers),
            },
        })
    }
}

impl From<&t::RootRotation> for pb::RootRotation {
    fn from(rotation: &t::RootRotation) -> Self {
        Self {
            ca_cert: rotation.ca_cert.0.clone(),
            ca_key: rotation.ca_key.0.clone(),
            cross_signed_ca_cert: rotation.cross_signed_ca_cert.0.clone(),
        }
    }
}

impl From<pb::RootRotation> for t::RootRotation {
    fn from(rotation: pb::RootRotation) -> Self {
        Self {
            ca_cert: rotation.ca_cert.into(),
            ca_key: rotation.ca_key.into(),
            cross_signed_ca_cert: rotation.cross_signed_ca_cert.into(),
        }
    }
}

impl From<&t::RootCa> for pb::RootCa {
    fn from(root: &t::RootCa) -> Self {
        Self {
            ca_key: root.ca_key.0.clone(),
            ca_cert: root.ca_cert.0.clone(),
            ca_cert_hash: root.ca_cert_hash.clone(),
            join_tokens: Some(pb::JoinTokens {
                worker: root.join_tokens.worker.clone(),
                manager: root.join_tokens.manager.clone(),
            }),
            root_rotation: maybe(&root.root_rotation),
            last_forced_rotation: root.last_forced_rotation,
        }
    }
}

impl From<pb::RootCa> for t::RootCa {
    fn from(root: pb::RootCa) -> Self {
        let tokens = root.join_tokens.unwrap_or_default();
        Self {
            ca_key: root.ca_key.into(),
            ca_cert: root.ca_cert.into(),
            ca_cert_hash: root.ca_cert_hash,
            join_tokens: t::JoinTokens { worker: tokens.worker, manager: tokens.manager },
            root_rotation: root.root_rotation.map(Into::into),
            last_forced_rotation: root.last_forced_rotation,
        }
    }
}

impl From<&t::EncryptionKey> for pb::EncryptionKey {
    fn from(key: &t::EncryptionKey) -> Self {
        Self {
            subsystem: key.subsystem.clone(),
            algorithm: pb::encryption_key::Algorithm::Aes128Gcm.into(),
            key: key.key.0.clone(),
            lamport_time: key.lamport_time,
        }
    }
}

impl TryFrom<pb::EncryptionKey> for t::EncryptionKey {
    type Error = ConvertError;

    fn try_from(key: pb::EncryptionKey) -> Result<Self> {
        if pb::encryption_key::Algorithm::try_from(key.algorithm).is_err() {
            return Err(ConvertError::UnknownEnum {
                field: "algorithm".to_owned(),
                kind: "encryption algorithm",
                value: key.algorithm,
            });
        }
        Ok(Self { subsystem: key.subsystem, key: key.key.into(), lamport_time: key.lamport_time })
    }
}

impl From<&t::Cluster> for pb::Cluster {
    fn from(cluster: &t::Cluster) -> Self {
        Self {
            id: cluster.id.to_string(),
            meta: Some((&cluster.meta).into()),
            spec: Some((&cluster.spec).into()),
            root_ca: Some((&cluster.root_ca).into()),
            network_bootstrap_keys: list(&cluster.network_bootstrap_keys),
            encryption_key_lamport_clock: cluster.encryption_key_lamport_clock,
            blacklisted_certificates: cluster
                .blacklisted_certificates
                .iter()
                .map(|(cn, expiry)| {
                    let entry = pb::BlacklistedCertificate { expiry: Some(pb_timestamp(*expiry)) };
                    (cn.clone(), entry)
                })
                .collect(),
            unlock_keys: list(&cluster.unlock_keys),
            fips: false,
            default_address_pool: cluster.default_addr_pool.clone(),
            subnet_size: cluster.subnet_size,
            vxlan_udp_port: cluster.data_path_port,
        }
    }
}

impl TryFrom<pb::Cluster> for t::Cluster {
    type Error = ConvertError;

    fn try_from(cluster: pb::Cluster) -> Result<Self> {
        let blacklisted_certificates = cluster
            .blacklisted_certificates
            .into_iter()
            .map(|(cn, entry)| {
                let field = format!("blacklisted_certificates[{cn}].expiry");
                Ok((cn, timestamp_or_zero(&field, entry.expiry)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            id: cluster.id.into(),
            meta: try_or_default("meta", cluster.meta)?,
            spec: try_or_default("spec", cluster.spec)?,
            default_addr_pool: cluster.default_address_pool,
            subnet_size: cluster.subnet_size,
            data_path_port: cluster.vxlan_udp_port,
            root_ca: into_or_default::<_, t::RootCa>(cluster.root_ca),
            network_bootstrap_keys: try_list(
                "network_bootstrap_keys",
                cluster.network_bootstrap_keys,
            )?,
            encryption_key_lamport_clock: cluster.encryption_key_lamport_clock,
            exposed_network_keys: 0,
            blacklisted_certificates,
            unlock_keys: try_list("unlock_keys", cluster.unlock_keys)?,
        })
    }
}

owned!(Cluster, ClusterSpec, EncryptionKey, RootCa);
