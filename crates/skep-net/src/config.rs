//! What the network room is told at start. Reading it has no side effects.

use crate::cidr::Cidr;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a host's network.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Run-time state that a reboot forgets: `netns/` with the pinned namespaces and
    /// `net/` with what is running now.
    pub exec_root: PathBuf,
    /// Lasting state: `network/` with the local networks.
    pub data_root: PathBuf,
    /// MTU of local networks that do not name one, in bytes (`--mtu`).
    pub mtu: u16,
    /// The `bridge` network.
    pub default_bridge: DefaultBridge,
    /// Where local networks without a subnet get one from, tried in order
    /// (`--default-address-pool`). Empty means Docker's own list.
    pub address_pools: Vec<AddressPool>,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
    /// Resolver settings for containers that bring none (`--dns`, `--dns-search`, `--dns-opt`).
    pub dns: DnsOptions,
    /// What the name `host-gateway` in `--add-host` stands for; the default
    /// bridge's gateway when not given.
    pub host_gateway: Option<Ipv4Addr>,
    /// The address published ports bind to when none is given (`--ip`).
    pub default_binding: Ipv4Addr,
    /// The nftables program, looked up in `PATH` when not absolute.
    pub nft: PathBuf,
    /// How often plan and kernel are compared without a reason.
    pub verify_interval: Duration,
}

impl NetConfig {
    /// Docker's defaults under the two folders.
    pub fn new(exec_root: impl Into<PathBuf>, data_root: impl Into<PathBuf>) -> Self {
        Self {
            exec_root: exec_root.into(),
            data_root: data_root.into(),
            mtu: 1500,
            default_bridge: DefaultBridge::default(),
            address_pools: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            dns: DnsOptions::default(),
            host_gateway: None,
            default_binding: Ipv4Addr::UNSPECIFIED,
            nft: PathBuf::from("nft"),
            verify_interval: Duration::from_secs(30),
        }
    }

    /// The pools to allocate from: the configured ones or Docker's list.
    pub fn pools(&self) -> Vec<AddressPool> {
        if self.address_pools.is_empty() {
            AddressPool::docker_defaults()
        } else {
            self.address_pools.clone()
        }
    }
}

/// The `bridge` network's settings.
#[derive(Debug, Clone)]
pub struct DefaultBridge {
    /// Name of the Linux bridge.
    pub name: String,
    /// The bridge's own address with the subnet's prefix (`--bip`); from the
    /// address pools when not given.
    pub address: Option<Cidr>,
    /// Whether containers on it may talk to each other (`--icc`).
    pub icc: bool,
    /// Whether traffic leaving it is masqueraded (`--ip-masq`).
    pub masquerade: bool,
}

impl Default for DefaultBridge {
    fn default() -> Self {
        Self { name: "docker0".to_owned(), address: None, icc: true, masquerade: true }
    }
}

/// A range of addresses that is cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The range.
    pub base: Cidr,
    /// Prefix length of the subnets cut from it.
    pub size: u8,
}

impl AddressPool {
    /// The list a Docker daemon has built in.
    pub fn docker_defaults() -> Vec<Self> {
        const fn pool(a: u8, b: u8, prefix: u8, size: u8) -> AddressPool {
            match Cidr::new(Ipv4Addr::new(a, b, 0, 0), prefix) {
                Some(base) => AddressPool { base, size },
                None => panic!("the built-in prefix lengths are below 33"),
            }
        }
        vec![
            pool(172, 17, 16, 16),
            pool(172, 18, 16, 16),
            pool(172, 19, 16, 16),
            pool(172, 20, 14, 16),
            pool(172, 24, 14, 16),
            pool(172, 28, 14, 16),
            pool(192, 168, 16, 20),
        ]
    }
}

/// Resolver settings, of a container or as the daemon's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DnsOptions {
    /// Servers to forward to; the host's when empty.
    pub servers: Vec<IpAddr>,
    /// Search domains; the host's when empty, none at all for the single entry `.`.
    pub search: Vec<String>,
    /// Resolver options such as `ndots:2`.
    pub options: Vec<String>,
}
