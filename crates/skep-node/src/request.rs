use skep_types::{Cluster, ClusterSpec, NodeAvailability, NodeId};

/// `docker swarm init`. Texts are as the user typed them; empty means the default.
#[derive(Clone, Debug, PartialEq)]
pub struct InitRequest {
    /// Address or interface, with optional port; default `0.0.0.0:2377`.
    pub listen_addr: String,
    /// Address or interface, with optional port; default: the only address of the host.
    pub advertise_addr: String,
    /// Address or interface without port; default: the advertised address.
    pub data_path_addr: String,
    /// 0 for the default of 4789, else 1024 to 49151.
    pub data_path_port: u32,
    /// CIDRs; empty for 10.0.0.0/8.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of the networks cut from the pool; 0 for 24.
    pub subnet_size: u32,
    pub force_new_cluster: bool,
    pub autolock: bool,
    pub availability: NodeAvailability,
    pub spec: ClusterSpec,
}

impl Default for InitRequest {
    fn default() -> Self {
        Self {
            listen_addr: String::new(),
            advertise_addr: String::new(),
            data_path_addr: String::new(),
            data_path_port: 0,
            default_addr_pool: Vec::new(),
            subnet_size: 0,
            force_new_cluster: false,
            autolock: false,
            availability: NodeAvailability::Active,
            spec: ClusterSpec::default(),
        }
    }
}

/// `docker swarm join`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    pub listen_addr: String,
    pub advertise_addr: String,
    pub data_path_addr: String,
    /// host or host:port of managers; tried in order.
    pub remote_addrs: Vec<String>,
    pub token: String,
    pub availability: NodeAvailability,
}

/// Docker's `LocalNodeState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalNodeState {
    #[default]
    Inactive,
    Pending,
    Active,
    Error,
    Locked,
}

impl LocalNodeState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Error => "error",
            Self::Locked => "locked",
        }
    }
}

/// A manager this host knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteManager {
    pub node_id: NodeId,
    /// host:port
    pub addr: String,
}

/// The Swarm section of `docker info`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwarmInfo {
    /// Empty outside a swarm.
    pub node_id: NodeId,
    /// Plain address, without port.
    pub node_addr: String,
    pub local_state: LocalNodeState,
    pub control_available: bool,
    /// Empty when nothing is wrong.
    pub error: String,
    pub remote_managers: Vec<RemoteManager>,
    /// Counts, on managers with a leader.
    pub nodes: Option<u64>,
    pub managers: Option<u64>,
    /// The swarm, on managers with a leader; without keys and tokens.
    pub cluster: Option<Cluster>,
}
