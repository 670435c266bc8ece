//! Ports of the host that are spoken for. A socket of ours holds each, so that no
//! other process takes it and that `ss` shows who has it; the traffic never reaches
//! the socket, because nftables leads it away before. So it listens only once the rules
//! are there: a connection that came before would be taken and never answered.

use crate::error::{NetError, Result};
use crate::ids::SandboxId;
use crate::model::{PortBinding, PortSpec};
use crate::sockets;
use crate::world::MeshPort;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};
use skep_types::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

/// Where a port is picked from when none is asked for, both ends included: the
/// kernel's own range for outgoing connections, as Docker does.
const AUTOMATIC: (u16, u16) = (32768, 60999);

/// For whom a port is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A container.
    Sandbox(SandboxId, String),
    /// A service of the routing mesh, by name.
    Mesh(String),
}

impl Owner {
    fn describe(&self) -> String {
        match self {
            Self::Sandbox(_, name) => format!(" (held by container {name})"),
            Self::Mesh(service) => format!(" (held by service {service})"),
        }
    }
}

type Key = (Protocol, Ipv4Addr, u16);

/// What holds a port.
#[derive(Debug)]
enum Hold {
    /// Never accepted from.
    Tcp {
        socket: OwnedFd,
        listens: bool,
    },
    Udp(#[expect(dead_code, reason = "held, never read")] UdpSocket),
    /// SCTP has no sockets on many kernels; the table alone keeps it.
    Noted,
}

/// All held ports.
#[derive(Debug, Default)]
pub struct Ports {
    held: BTreeMap<Key, (Hold, Owner)>,
    next: u16,
}

impl Ports {
    /// Binds everything a container publishes, all or nothing. `0.0.0.0` stands for
    /// the default address.
    pub fn publish(
        &mut self,
        sandbox: &SandboxId,
        container: &str,
        specs: &[PortSpec],
        default: Ipv4Addr,
    ) -> Result<Vec<PortBinding>> {
        let owner = Owner::Sandbox(sandbox.clone(), container.to_owned());
        let mut made: Vec<PortBinding> = Vec::new();
        for spec in specs {
            match self.publish_one(&owner, spec, default) {
                Ok(binding) => made.push(binding),
                Err(error) => {
                    for b in made {
                        self.held.remove(&(b.protocol, b.host_ip, b.host_port));
                    }
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    fn publish_one(
        &mut self,
        owner: &Owner,
        spec: &PortSpec,
        default: Ipv4Addr,
    ) -> Result<PortBinding> {
        let host_ip = spec.host_ip.unwrap_or(default);
        let binding = |host_port| PortBinding {
            protocol: spec.protocol,
            container_port: spec.container_port,
            host_ip,
            host_port,
        };
        let (first, last) = spec.host_ports;
        if (first, last) == (0, 0) {
            let size = AUTOMATIC.1 - AUTOMATIC.0 + 1;
            for step in 0..size {
                let port = AUTOMATIC.0 + (self.next + step) % size;
                if self.hold((spec.protocol, host_ip, port), owner.clone()).is_ok() {
                    self.next = (self.next + step + 1) % size;
                    return Ok(binding(port));
                }
            }
        } else {
            let mut failure = None;
            for port in first..=last {
                match self.hold((spec.protocol, host_ip, port), owner.clone()) {
                    Ok(()) => return Ok(binding(port)),
                    Err(error) => failure = Some(error),
                }
            }
            if let (Some(error), true) = (failure, first == last) {
                return Err(error);
            }
        }
        let (first, last) = if first == 0 { AUTOMATIC } else { (first, last) };
        Err(NetError::PortsExhausted { host_ip, first, last, protocol: spec.protocol })
    }

    /// Binds again what was published before, after a restart of the daemon.
    pub fn restore(
        &mut self,
        sandbox: &SandboxId,
        container: &str,
        binding: &PortBinding,
    ) -> Result<()> {
        let owner = Owner::Sandbox(sandbox.clone(), container.to_owned());
        self.hold((binding.protocol, binding.host_ip, binding.host_port), owner)
    }

    /// Lets go of a container's ports.
    pub fn release(&mut self, sandbox: &SandboxId) {
        self.held.retain(|_, (_, owner)| !matches!(owner, Owner::Sandbox(id, _) if id == sandbox));
    }

    /// Holds exactly these ports for the routing mesh. Returns what
    /// could not be had, and why.
    pub fn mesh(
        &mut self,
        wanted: &BTreeMap<(Protocol, u16), MeshPort>,
    ) -> BTreeMap<(Protocol, u16), NetError> {
        self.held.retain(|(protocol, _, port), (_, owner)| {
            !matches!(owner, Owner::Mesh(_)) || wanted.contains_key(&(*protocol, *port))
        });
        let mut refused = BTreeMap::new();
        for (&(protocol, port), mesh) in wanted {
            let key = (protocol, Ipv4Addr::UNSPECIFIED, port);
            if matches!(self.held.get(&key), Some((_, Owner::Mesh(_)))) {
                continue;
            }
            if let Err(error) = self.hold(key, Owner::Mesh(mesh.service.clone())) {
                refused.insert((protocol, port), error);
            }
        }
        refused
    }

    /// To be called once the rules for all held ports are in force. A port that somebody else got to listen
    /// on meanwhile is let go, and tried again with the next call of [`Ports::mesh`].
    pub fn listen(&mut self) {
        self.held.retain(|(_, _, port), (hold, owner)| {
            let Hold::Tcp { socket, listens } = hold else { return true };
            if *listens {
                return true;
            }
            match Backlog::new(1).and_then(|backlog| listen(socket, backlog)) {
                Ok(()) => *listens = true,
                Err(error) => {
                    tracing::warn!(port, owner = owner.describe(), %error, "cannot hold a port");
                }
            }
            *listens
        });
    }

    fn hold(&mut self, key: Key, owner: Owner) -> Result<()> {
        let (protocol, host_ip, port) = key;
        let taken = |holder| NetError::PortTaken { host_ip, port, protocol, holder };
        let clash = self.held.iter().find(|((p, ip, n), _)| {
            *p == protocol
                && *n == port
                && (*ip == host_ip || ip.is_unspecified() || host_ip.is_unspecified())
        });
        if let Some((_, (_, other))) = clash {
            return Err(taken(other.describe()));
        }
        let address = SocketAddrV4::new(host_ip, port);
        let bound = match protocol {
            Protocol::Tcp => bound(address).map(|socket| Hold::Tcp { socket, listens: false }),
            Protocol::Udp => UdpSocket::bind(address).map(Hold::Udp),
            Protocol::Sctp => Ok(Hold::Noted),
        };
        match bound {
            Ok(hold) => {
                self.held.insert(key, (hold, owner));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                Err(taken(holder(protocol, port)))
            }
            Err(source) => Err(NetError::PortUnusable { host_ip, port, protocol, source }),
        }
    }
}

/// A TCP socket that has an address and does not listen yet.
fn bound(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // What is left of a closed connection does not matter. Somebody who listens does.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(socket)
}

/// Which process has a port, as ` (held by process nginx, pid 123)`; empty when that
/// cannot be told.
fn holder(protocol: Protocol, port: u16) -> String {
    match find_process(protocol, port) {
        Ok(Some((pid, name))) => format!(" (held by process {name}, pid {pid})"),
        // Not worth failing over: the port is taken either way.
        Ok(None) | Err(_) => String::new(),
    }
}

fn find_process(protocol: Protocol, port: u16) -> io::Result<Option<(u32, String)>> {
    let inodes: BTreeSet<String> = sockets::list(protocol)
        .into_iter()
        // A connection of TCP has the port of its listener; a connected UDP socket has its own.
        .filter(|socket| socket.port == port && (socket.open || protocol == Protocol::Udp))
        .map(|socket| format!("socket:[{}]", socket.inode))
        .collect();
    if inodes.is_empty() {
        return Ok(None);
    }
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        // Processes come and go while we look.
        let Ok(fds) = fs::read_dir(entry.path().join("fd")) else { continue };
        let has = fds.flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|target| inodes.contains(target.to_string_lossy().as_ref()))
        });
        if has {
            let name = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"))?;
            return Ok(Some((pid, name.trim().to_owned())));
        }
    }
    Ok(None)
}
