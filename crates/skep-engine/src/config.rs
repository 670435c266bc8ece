//! What an engine is told at start. Reading it has no side effects.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use skep_types::defaults;

use skep_net::{AddressPool, DefaultBridge};

/// Settings of one host's engine, at its start: [`Reloadable`] names those that may change later.
/// [`EngineConfig::new`] gives Docker's defaults.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Lasting state: `containers/`, `volumes/`, `image/`, `network/`, `engine-id`.
    pub data_root: PathBuf,
    /// State a reboot forgets: `containers/<id>/` bundles, `netns/`, `net/`.
    pub exec_root: PathBuf,
    /// Executable that is started as `<shim> shim <bundle>` for each container.
    pub shim: PathBuf,
    /// Name shown by `info`; the kernel's host name when `None`.
    pub name: Option<String>,
    /// `key=value` labels of this host.
    pub labels: Vec<String>,
    /// Version text shown as `ServerVersion`.
    pub version: String,
    /// The `bridge` network.
    pub default_bridge: DefaultBridge,
    /// Where networks without a subnet get one; Docker's list when empty.
    pub address_pools: Vec<AddressPool>,
    /// MTU of local networks in bytes.
    pub mtu: u16,
    /// Resolvers of containers that name none; the host's when empty.
    pub dns: Vec<IpAddr>,
    /// Search domains of containers that name none.
    pub dns_search: Vec<String>,
    /// Resolver options of containers that name none.
    pub dns_options: Vec<String>,
    /// What `host-gateway` stands for; the default bridge's address when `None`.
    pub host_gateway: Option<Ipv4Addr>,
    /// The address ports are published on when none is given.
    pub default_binding: Ipv4Addr,
    /// Registries spoken to without verified TLS: `host[:port]` or CIDR.
    pub insecure_registries: Vec<String>,
    /// Base URLs tried before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Log driver of containers that name none: `json-file` or `none`.
    pub log_driver: String,
    /// Its options.
    pub log_options: Vec<(String, String)>,
    /// Control group that containers' groups are made under, such as `/docker`.
    pub cgroup_parent: String,
    /// `/dev/shm` of containers that name no size, in bytes.
    pub default_shm_size: u64,
    /// Limits of containers that name none: name, soft, hard.
    pub default_ulimits: Vec<(String, i64, i64)>,
    /// Whether `--init` is on unless a container says otherwise.
    pub init: bool,
    /// Time between stop signal and SIGKILL where a container names none, in seconds.
    pub stop_timeout_secs: i64,
    /// Shown by `info`.
    pub debug: bool,
}

impl EngineConfig {
    /// Docker's defaults under the two folders.
    pub fn new(
        data_root: impl Into<PathBuf>,
        exec_root: impl Into<PathBuf>,
        shim: impl Into<PathBuf>,
    ) -> Self {
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            shim: shim.into(),
            name: None,
            labels: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            default_bridge: DefaultBridge::default(),
            address_pools: Vec::new(),
            mtu: 1500,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            host_gateway: None,
            default_binding: Ipv4Addr::UNSPECIFIED,
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            log_driver: "json-file".to_owned(),
            log_options: Vec::new(),
            cgroup_parent: "/docker".to_owned(),
            default_shm_size: defaults::SHM_SIZE,
            default_ulimits: Vec::new(),
            init: false,
            stop_timeout_secs: defaults::STOP_GRACE.whole_secs(),
            debug: false,
        }
    }

    pub(crate) fn containers_dir(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    pub(crate) fn bundles_dir(&self) -> PathBuf {
        self.exec_root.join("containers")
    }

    /// On which each container's root is mounted, in the container's own mount namespace. On the host
    /// it is empty.
    pub(crate) fn root_point(&self) -> PathBuf {
        self.exec_root.join("rootfs")
    }

    /// Where network namespaces are pinned.
    pub fn netns_dir(&self) -> PathBuf {
        self.exec_root.join("netns")
    }
}

/// The part of an [`EngineConfig`] that [`crate::Engine::reload`] changes. All else takes a new start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloadable {
    /// `key=value` labels of this host.
    pub labels: Vec<String>,
    /// Registries spoken to without verified TLS: `host[:port]` or CIDR.
    pub insecure_registries: Vec<String>,
    /// Base URLs tried before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Shown by `info`.
    pub debug: bool,
}

impl Reloadable {
    /// What an engine is started with.
    pub(crate) fn of(config: &EngineConfig) -> Self {
        Self {
            labels: config.labels.clone(),
            insecure_registries: config.insecure_registries.clone(),
            registry_mirrors: config.registry_mirrors.clone(),
            debug: config.debug,
        }
    }
}
