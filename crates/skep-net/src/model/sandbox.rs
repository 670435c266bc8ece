//! Sandboxes: one network namespace with its name files and published ports.

use crate::config::DnsOptions;
use crate::ids::SandboxId;
use crate::model::EndpointInfo;
use serde::{Deserialize, Serialize};
use skep_types::Protocol;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Which namespace a sandbox stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum SandboxMode {
    /// A namespace of its own.
    #[default]
    Isolated,
    /// The daemon's own: no endpoints, only the name files are written.
    Host,
}

/// One `--add-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address; `None` for `host-gateway`.
    pub address: Option<IpAddr>,
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the container, 1 to 65535.
    pub container_port: u16,
    /// Address on the host; the network's or the daemon's default when `None`.
    pub host_ip: Option<Ipv4Addr>,
    /// First and last host port to try, both included. `(0, 0)` picks a free one
    /// from 32768–60999.
    pub host_ports: (u16, u16),
}

/// A published port as it came out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortBinding {
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the container.
    pub container_port: u16,
    /// Address on the host, `0.0.0.0` for all.
    pub host_ip: Ipv4Addr,
    /// Port on the host.
    pub host_port: u16,
}

/// What a sandbox is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// 64 hex, unique.
    pub id: SandboxId,
    /// The container it is for, 64 hex; the key in a network's inspection.
    pub container_id: String,
    /// The container's name, without a leading slash.
    pub container_name: String,
    /// Host name in the container.
    pub hostname: String,
    /// Domain name, may be empty.
    pub domainname: String,
    /// Own namespace or the host's.
    pub mode: SandboxMode,
    /// Resolver settings of the container.
    pub dns: DnsOptions,
    /// Extra lines for `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Folder that `hosts`, `resolv.conf` and `hostname` are written to. Must exist.
    pub files_dir: PathBuf,
    /// Ports to publish, on the endpoint that gives the default route.
    pub ports: Vec<PortSpec>,
}

/// A sandbox as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxInfo {
    /// Identity.
    pub id: SandboxId,
    /// Path of the pinned namespace (`NetworkSettings.SandboxKey`).
    pub key: PathBuf,
    /// Attachments in the order of their interfaces. The one on
    /// `docker_gwbridge` that overlays bring along is not among them.
    pub endpoints: Vec<EndpointInfo>,
    /// Published ports; empty while no endpoint gives a way in.
    pub ports: Vec<PortBinding>,
    /// Whether names are resolved at 127.0.0.11.
    pub embedded_dns: bool,
}

/// A sandbox that is still in use when a daemon starts.
#[derive(Debug)]
pub struct SandboxAdoption {
    /// Which.
    pub id: SandboxId,
    /// Sockets from an earlier [`crate::Net::dns_sockets`], by the names given
    /// there. May be empty: new ones are made then, and queries that were waiting
    /// are lost.
    pub dns_sockets: Vec<(String, OwnedFd)>,
}
