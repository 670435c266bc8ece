//! Arbitrary cluster objects in the form that the wire can carry: where the wire has one form for
//! two of ours (an absent number and its default), the one that comes back.

use skep_types::*;

use super::make::{Chance, Make, enums, ids, structs};

ids!(ClusterId NodeId ServiceId TaskId NetworkId SecretId ConfigId);

enums! {
    TaskState: New Pending Assigned Accepted Preparing Ready Starting Running Complete Shutdown
        Failed Rejected Remove Orphaned;
    NodeRole: Worker Manager;
    NodeMembership: Pending Accepted;
    NodeAvailability: Active Pause Drain;
    NodeState: Unknown Down Ready Disconnected;
    Reachability: Unknown Unreachable Reachable;
    IssuanceState: Unknown Renew Pending Issued Failed Rotate;
    MountType: Bind Volume Tmpfs Npipe Cluster Image;
    MountConsistency: Default Consistent Cached Delegated;
    MountPropagation: Rprivate Private Rshared Shared Rslave Slave;
    RestartCondition: None OnFailure Any;
    FailureAction: Pause Continue Rollback;
    UpdateOrder: StopFirst StartFirst;
    UpdateState: Updating Paused Completed RollbackStarted RollbackPaused RollbackCompleted;
    ResolutionMode: Vip Dnsrr;
    Protocol: Tcp Udp Sctp;
    PublishMode: Ingress Host;
    SeccompMode: Default Unconfined Custom;
    AppArmorMode: Default Disabled;
}

structs! {
    Version { index }
    Meta { version, created_at, updated_at }
    Annotations { name, labels }
    Driver { name, options }
    NamedGenericResource { kind, value }
    DiscreteGenericResource { kind, value }
    Resources { nano_cpus, memory_bytes, generic_resources }
    PortConfig { name, protocol, target_port, published_port, publish_mode }
    BindOptions {
        propagation, non_recursive, create_mountpoint, read_only_non_recursive,
        read_only_force_recursive,
    }
    VolumeOptions { no_copy, labels, subpath, driver_config }
    TmpfsOptions { size_bytes, mode, options }
    Mount {
        kind, source, target, read_only, consistency, bind_options, volume_options, tmpfs_options,
    }
    IpamConfig { subnet, range, gateway, reserved }
    IpamOptions { driver, configs }
    NetworkAttachmentConfig { target, aliases, driver_opts, addresses }
    NetworkAttachment { network, addresses, aliases, driver_attachment_opts }
    Ulimit { name, hard, soft }
    DnsConfig { nameservers, search, options }
    FileTarget { name, uid, gid, mode }
    SecretReference { file, secret_id, secret_name }
    Privileges { credential_spec, selinux_context, seccomp, app_armor, no_new_privileges }
    SeLinuxContext { disable, user, role, kind, level }
    SeccompOpts { mode, profile }
    AppArmorOpts { mode }
    SpreadOver { spread_descriptor }
    PlacementPreference { spread }
    Placement { constraints, preferences, max_replicas, platforms }
    Platform { architecture, os }
    NetworkAttachmentSpec { container_id }
    ContainerStatus { container_id, pid, exit_code }
    PortStatus { ports }
    TaskStatus {
        timestamp, state, message, err, container_status, port_status, applied_at, applied_by,
    }
    Task {
        id, meta, annotations, spec, service_id, slot, node_id, status, desired_state,
        networks_attachments, generic_resources, job_iteration, service_annotations, endpoint,
        log_driver, spec_version,
    }
    UpdateConfig { parallelism, delay, failure_action, monitor, max_failure_ratio, order }
    EndpointSpec { mode, ports }
    VirtualIp { network_id, addr }
    Endpoint { spec, ports, virtual_ips }
    ServiceSpec {
        annotations, task_template, mode, update_config, rollback_config, networks, endpoint_spec,
    }
    UpdateStatus { state, started_at, completed_at, message }
    JobStatus { job_iteration, last_execution }
    Service {
        id, meta, spec, previous_spec, endpoint, update_status, job_status, spec_version,
        previous_spec_version, pending_delete,
    }
    NodeSpec { annotations, role, availability, membership }
    PluginDescription { kind, name }
    EngineDescription { engine_version, labels, plugins }
    TlsInfo { trust_root, cert_issuer_subject, cert_issuer_public_key }
    NodeDescription { hostname, platform, resources, engine, tls_info }
    NodeStatus { state, message, addr }
    ManagerStatus { leader, reachability, addr, raft_id }
    Certificate { role, csr, state, err, certificate, cn }
    Node {
        id, meta, spec, description, status, manager_status, role, certificate, attachments,
        vxlan_udp_port,
    }
    SecretSpec { annotations, data, driver, templating }
    Secret { id, meta, spec, internal }
    ConfigSpec { annotations, data, templating }
    Config { id, meta, spec }
    CaConfig { node_cert_expiry, external_cas, signing_ca_cert, signing_ca_key, force_rotate }
    DispatcherConfig { heartbeat_period }
    TaskDefaults { log_driver }
    EncryptionConfig { auto_lock_managers }
    ClusterSpec {
        annotations, orchestration, raft, dispatcher, ca_config, task_defaults, encryption_config,
    }
    JoinTokens { worker, manager }
    RootRotation { ca_cert, ca_key, cross_signed_ca_cert }
    RootCa { ca_key, ca_cert, ca_cert_hash, join_tokens, root_rotation, last_forced_rotation }
    EncryptionKey { subsystem, key, lamport_time }
}

impl Make for Cluster {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self {
            id: Make::make(chance),
            meta: Make::make(chance),
            spec: Make::make(chance),
            default_addr_pool: Make::make(chance),
            subnet_size: Make::make(chance),
            data_path_port: Make::make(chance),
            root_ca: Make::make(chance),
            network_bootstrap_keys: Make::make(chance),
            encryption_key_lamport_clock: Make::make(chance),
            // Never travels.
            exposed_network_keys: 0,
            blacklisted_certificates: Make::make(chance),
            unlock_keys: Make::make(chance),
        }
    }
}

impl Make for GenericResource {
    fn make(chance: &mut Chance<'_>) -> Self {
        match chance.byte() % 3 {
            0 => Self::default(),
            1 => Self { named_resource_spec: Some(Make::make(chance)), ..Self::default() },
            _ => Self { discrete_resource_spec: Some(Make::make(chance)), ..Self::default() },
        }
    }
}

impl Make for NetworkSpec {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self {
            annotations: Make::make(chance),
            driver_configuration: Make::make(chance),
            ipv6_enabled: Make::make(chance),
            internal: Make::make(chance),
            attachable: Make::make(chance),
            ingress: Make::make(chance),
            ipam: Make::make(chance),
            config_from: Make::make(chance),
            scope: String::new(),
        }
    }
}

impl Make for Network {
    fn make(chance: &mut Chance<'_>) -> Self {
        let ipam: Option<IpamOptions> = Make::make(chance);
        Self {
            id: Make::make(chance),
            meta: Make::make(chance),
            spec: Make::make(chance),
            driver_state: Make::make(chance),
            ipam: ipam.filter(|ipam| *ipam != IpamOptions::default()),
            pending_delete: Make::make(chance),
        }
    }
}

impl Make for HealthConfig {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self {
            test: Make::make(chance),
            interval: Make::make(chance),
            timeout: Make::make(chance),
            start_period: Make::make(chance),
            start_interval: Make::make(chance),
            retries: i64::from(i32::make(chance)),
        }
    }
}

impl Make for ConfigReference {
    fn make(chance: &mut Chance<'_>) -> Self {
        let file: Option<FileTarget> = Make::make(chance);
        let runtime = (file.is_none() && bool::make(chance)).then_some(RuntimeTarget {});
        Self { file, runtime, config_id: Make::make(chance), config_name: Make::make(chance) }
    }
}

impl Make for CredentialSpec {
    fn make(chance: &mut Chance<'_>) -> Self {
        let text = String::make(chance);
        match chance.byte() % 3 {
            0 => Self { config: text, ..Self::default() },
            1 => Self { file: text, ..Self::default() },
            _ => Self { registry: text, ..Self::default() },
        }
    }
}

impl Make for ContainerSpec {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self {
            image: Make::make(chance),
            labels: Make::make(chance),
            command: Make::make(chance),
            args: Make::make(chance),
            hostname: Make::make(chance),
            env: Make::make(chance),
            dir: Make::make(chance),
            user: Make::make(chance),
            groups: Make::make(chance),
            privileges: Make::make(chance),
            init: Make::make(chance),
            stop_signal: Make::make(chance),
            tty: Make::make(chance),
            open_stdin: Make::make(chance),
            read_only: Make::make(chance),
            mounts: Make::make(chance),
            stop_grace_period: Make::make(chance),
            healthcheck: Make::make(chance),
            hosts: Make::make(chance),
            dns_config: Make::make(chance),
            secrets: Make::make(chance),
            configs: Make::make(chance),
            isolation: chance.pick(&["", "process", "hyperv"]).to_owned(),
            sysctls: Make::make(chance),
            capability_add: Make::make(chance),
            capability_drop: Make::make(chance),
            ulimits: Make::make(chance),
            oom_score_adj: Make::make(chance),
            registry_auth: Make::make(chance),
        }
    }
}

impl Make for ResourceRequirements {
    /// Limits without a number of processes: that one travels with a container only.
    fn make(chance: &mut Chance<'_>) -> Self {
        let limits = bool::make(chance).then(|| Limit {
            nano_cpus: Make::make(chance),
            memory_bytes: Make::make(chance),
            pids: 0,
        });
        Self {
            limits,
            reservations: Make::make(chance),
            swap_bytes: Make::make(chance),
            memory_swappiness: Make::make(chance),
        }
    }
}

impl Make for RestartPolicy {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self {
            condition: Make::make(chance),
            delay: Make::make(chance),
            max_attempts: Some(Make::make(chance)),
            window: Make::make(chance),
        }
    }
}

impl Make for TaskSpec {
    fn make(chance: &mut Chance<'_>) -> Self {
        let mut spec = Self {
            resources: Make::make(chance),
            restart_policy: Make::make(chance),
            placement: Make::make(chance),
            networks: Make::make(chance),
            log_driver: Make::make(chance),
            force_update: Make::make(chance),
            ..Self::default()
        };
        match chance.byte() % 3 {
            0 => {}
            1 => {
                spec.runtime = "attachment".to_owned();
                spec.network_attachment_spec = Some(Make::make(chance));
            }
            _ => {
                spec.runtime = "container".to_owned();
                spec.container_spec = Some(Make::make(chance));
                if let Some(limits) = spec.resources.as_mut().and_then(|r| r.limits.as_mut()) {
                    limits.pids = Make::make(chance);
                }
            }
        }
        spec
    }
}

impl Make for ServiceMode {
    fn make(chance: &mut Chance<'_>) -> Self {
        match chance.byte() % 4 {
            0 => Self::Replicated(ReplicatedService { replicas: Some(Make::make(chance)) }),
            1 => Self::Global(GlobalService {}),
            2 => Self::ReplicatedJob(ReplicatedJob {
                max_concurrent: Some(Make::make(chance)),
                total_completions: Some(Make::make(chance)),
            }),
            _ => Self::GlobalJob(GlobalJob {}),
        }
    }
}

impl Make for ExternalCa {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self {
            protocol: "cfssl".to_owned(),
            url: Make::make(chance),
            options: Make::make(chance),
            ca_cert: Make::make(chance),
        }
    }
}

impl Make for OrchestrationConfig {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self { task_history_retention_limit: Some(Make::make(chance)) }
    }
}

impl Make for RaftConfig {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self {
            snapshot_interval: Make::make(chance),
            keep_old_snapshots: Some(Make::make(chance)),
            log_entries_for_slow_followers: Make::make(chance),
            election_tick: i64::from(u32::make(chance)),
            heartbeat_tick: i64::from(u32::make(chance)),
        }
    }
}
