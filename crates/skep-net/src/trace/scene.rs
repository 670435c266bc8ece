//! Everything a walk may look at.

use super::live::{Live, LiveLink};
use super::report::{Interface, Role};
use crate::model::{BlockedPorts, EndpointRecord};
use crate::plan::{HostPlan, NsName};
use crate::world::{Services, World};
use skep_types::Protocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A service as the swarm's managers describe it. Where this host is none of them,
/// only what the network room knows by itself is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownService {
    /// Name.
    pub name: String,
    /// Published ports of the routing mesh.
    pub ports: Vec<KnownPort>,
    /// Tasks that run.
    pub running: u64,
    /// Tasks that are wanted.
    pub desired: u64,
}

/// A published port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPort {
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the container.
    pub target: u16,
    /// Port on hosts.
    pub published: u16,
    /// Only on the hosts that have a task, past the routing mesh.
    pub host_mode: bool,
}

/// The desired state, the plans that follow from it, and what the kernel has.
pub struct Scene<'a> {
    pub world: &'a World,
    pub services: &'a Services,
    pub plans: &'a HostPlan,
    /// Namespaces read so far, and why others cannot be.
    pub live: &'a BTreeMap<NsName, Result<Live, String>>,
    /// Names of the swarm's hosts.
    pub nodes: &'a BTreeMap<IpAddr, String>,
    /// Services, where this host is a manager.
    pub known: Option<&'a [KnownService]>,
    /// Ports of the routing mesh that something else holds, and who.
    pub blocked: &'a BlockedPorts,
}

impl Scene<'_> {
    /// What a namespace is there for, and the name that goes with it.
    pub fn role(&self, ns: &NsName) -> (Role, String) {
        let network = |id| {
            let overlay = self.world.running.overlays.get(id);
            overlay.map(|n| n.name.clone()).unwrap_or_default()
        };
        match ns {
            NsName::Host => (Role::Host, String::new()),
            NsName::Ingress => (Role::Mesh, String::new()),
            NsName::Overlay(id) => (Role::Overlay, network(id)),
            NsName::Balancer(id) => (Role::Balancer, network(id)),
            NsName::Sandbox(id) => {
                let sandbox = self.world.sandbox(id);
                let name = sandbox.map(|s| s.spec.container_name.clone());
                (Role::Container, name.unwrap_or_default())
            }
        }
    }

    /// Name and host (`None` for this one) of whoever has an address.
    pub fn owner(&self, address: Ipv4Addr) -> Option<(String, Option<IpAddr>)> {
        let here = self.world.endpoints().find(|(_, e)| e.address.addr() == address);
        if let Some((sandbox, _)) = here {
            return Some((sandbox.spec.container_name.clone(), None));
        }
        let running = &self.world.running;
        let mut known = running.remote_endpoints.iter().chain(&running.last_heard);
        let ((network, endpoint), record) = known.find(|(_, r)| r.endpoint_ip == address)?;
        let peer = self.world.running.remote_peers.get(&(network.clone(), endpoint.clone()));
        Some((record.name.clone(), peer.map(|p| p.tunnel_endpoint_ip)))
    }

    /// What another host said of an address.
    pub fn remote_record(&self, address: Ipv4Addr) -> Option<&EndpointRecord> {
        self.world.running.remote_endpoints.values().find(|r| r.endpoint_ip == address)
    }

    /// A service that the managers know.
    pub fn known_service(&self, name: &str) -> Option<&KnownService> {
        self.known?.iter().find(|s| s.name.eq_ignore_ascii_case(name))
    }

    /// The service that publishes a port in the routing mesh, as the managers say.
    pub fn publisher(&self, protocol: Protocol, port: u16) -> Option<&KnownService> {
        let publishes =
            |p: &KnownPort| p.protocol == protocol && p.published == port && !p.host_mode;
        self.known?.iter().find(|s| s.ports.iter().any(publishes))
    }
}

impl From<&LiveLink> for Interface {
    fn from(link: &LiveLink) -> Self {
        Self {
            name: link.name.clone(),
            up: link.passes(),
            mtu: link.mtu,
            received: link.received,
            sent: link.sent,
            dropped: link.dropped,
        }
    }
}
