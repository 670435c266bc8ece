//! What the rules of a namespace should have done to a packet, from the desired state.
//! Where the kernel did something else, that is the finding that explains the rest.

use super::live::Live;
use super::report::{Reason, Step};
use super::walk::Walker;
use crate::ids::SandboxId;
use crate::plan::NsName;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Where a packet should go on to.
type Wanted = BTreeSet<(Ipv4Addr, u16)>;

impl Walker<'_> {
    /// Compares what became of a packet for `asked` with what should have.
    pub fn expect(&mut self, ns: &NsName, live: &Live, link: Option<&str>, asked: (Ipv4Addr, u16)) {
        let wanted = match ns {
            NsName::Host if live.is_local(asked.0) => self.at_host(asked),
            NsName::Ingress if link.is_some() => self.at_mesh(asked),
            NsName::Sandbox(id) => self.at_container(id, live, link, asked),
            _ => None,
        };
        let Some(wanted) = wanted.filter(|w| !w.is_empty()) else { return };
        self.compare_choice(&wanted);
        let now = (self.packet.destination, self.packet.port);
        if wanted.contains(&now) {
            return;
        }
        let protocol = self.packet.protocol;
        let list: Vec<String> = wanted.iter().map(|(a, p)| format!("{a}:{p}")).collect();
        let list = list.join(", ");
        if now == asked {
            let text = format!(
                "no rule leads {}:{}/{protocol} on to {list}, as it should; skep puts its rules \
                 back within seconds of a change by others",
                asked.0, asked.1
            );
            self.finding(Reason::RuleMissing, text);
        } else {
            let text = format!("a rule leads to {}:{} instead of {list}", now.0, now.1);
            self.finding(Reason::RuleDiffers, text);
        }
    }

    /// What is on the network of one of the namespace's cables should leave by that cable. The kernel forgets
    /// the route when the interface loses its address, goes down or goes.
    pub fn expect_route(&mut self, ns: &NsName, live: &Live, out: &str) {
        let to = self.packet.destination;
        let mut cables = self.scene.plans.get(ns).into_iter().flat_map(|p| &p.cables);
        let Some(cable) =
            cables.find(|c| c.addresses.iter().any(|a| a.prefix() < 32 && a.contains(to)))
        else {
            return;
        };
        if cable.interface == out {
            return;
        }
        let wanted = &cable.interface;
        let (reason, why) = match live.link(wanted) {
            None => (Reason::LinkMissing, format!("interface {wanted} is gone")),
            Some(link) if !link.up => (Reason::LinkDown, format!("interface {wanted} is down")),
            Some(_) => (Reason::NoRoute, format!("the route over {wanted} is gone")),
        };
        self.finding(reason, format!("{why}: {to} should be reached by it, not by {out}"));
    }

    /// The host leads published ports to containers of its own and to the mesh.
    fn at_host(&mut self, (address, port): (Ipv4Addr, u16)) -> Option<Wanted> {
        let scene = self.scene;
        let protocol = self.packet.protocol;
        if let Some(mesh) = scene.services.mesh.get(&(protocol, port)) {
            if let Some(problem) = scene.blocked.get(&(protocol, port)) {
                let text =
                    format!("service {} cannot have the port: {}", mesh.service, problem.reason);
                self.finding(Reason::PortNotFree, text);
                return None;
            }
            let balancer = scene.world.mesh_address()?;
            scene.world.ingress()?.lb_address?;
            return Some(Wanted::from_iter(mesh.at_host((balancer.addr(), port))));
        }
        let bound = scene.world.running.sandboxes.values().find_map(|sandbox| {
            let (endpoint, _) = sandbox.gateway(scene.world)?;
            let port = sandbox.ports.iter().find(|p| {
                p.protocol == protocol
                    && p.host_port == port
                    && (p.host_ip.is_unspecified() || p.host_ip == address)
            })?;
            Some((endpoint.address.addr(), port.container_port))
        });
        if bound.is_none()
            && let Some(service) = scene.publisher(protocol, port)
        {
            let text = format!(
                "service {} publishes {port}/{protocol}, but has no task in rotation \
                 ({} of {} wanted run)",
                service.name, service.running, service.desired
            );
            self.finding(Reason::NoTask, text);
        }
        bound.map(|to| Wanted::from([to]))
    }

    /// The mesh leads a published port to a task in rotation.
    fn at_mesh(&mut self, (_, port): (Ipv4Addr, u16)) -> Option<Wanted> {
        let mesh = self.scene.services.mesh.get(&(self.packet.protocol, port))?;
        if mesh.backends.is_empty() {
            self.nobody(&mesh.service.clone(), mesh.leaving.len());
            return None;
        }
        let (addresses, target) = mesh.in_mesh();
        Some(addresses.into_iter().map(|a| (a, target.unwrap_or(port))).collect())
    }

    /// A task redirects its published port; a client leads a virtual address to a task.
    fn at_container(
        &mut self,
        id: &SandboxId,
        live: &Live,
        link: Option<&str>,
        (address, port): (Ipv4Addr, u16),
    ) -> Option<Wanted> {
        let scene = self.scene;
        let sandbox = scene.world.sandbox(id)?;
        if let Some(link) = link {
            let protocol = self.packet.protocol;
            let nearby = sandbox.gateway(scene.world).is_some_and(|(gateway, _)| {
                gateway.interface == link && gateway.address.addr() == address
            });
            if nearby {
                // What a socket takes as it is needs no rule.
                let taken = live.listening(protocol, port).any(|s| s.takes(address));
                let mut tasks = sandbox.endpoints.iter().filter_map(|e| {
                    let ports = &e.service.as_ref()?.ingress_ports;
                    ports
                        .iter()
                        .any(|p| (p.protocol, p.target) == (protocol, port))
                        .then_some((e.address.addr(), port))
                });
                return tasks.next().filter(|_| !taken).map(|to| Wanted::from([to]));
            }
            let endpoint = sandbox
                .endpoints
                .iter()
                .find(|e| e.interface == link && e.address.addr() == address)?;
            let ports = &endpoint.service.as_ref()?.ingress_ports;
            let port =
                ports.iter().find(|p| p.protocol == self.packet.protocol && p.published == port)?;
            return Some(Wanted::from([(address, port.target)]));
        }
        let services =
            sandbox.endpoints.iter().filter_map(|e| scene.services.by_network.get(&e.network));
        let service = services.flat_map(|s| s.values()).find(|s| s.vip == Some(address))?;
        if service.backends.is_empty() {
            self.nobody(&service.name.clone(), service.leaving.len());
            return None;
        }
        Some(service.backends.iter().map(|a| (*a, port)).collect())
    }

    fn nobody(&mut self, service: &str, leaving: usize) {
        if leaving > 0 {
            let text = format!("all {leaving} tasks of service {service} are leaving rotation");
            self.finding(Reason::AllDraining, text);
        } else {
            let text = format!("service {service} has no task in rotation");
            self.finding(Reason::NoTask, text);
        }
    }

    /// Whether the kernel chooses among those it should choose among.
    fn compare_choice(&mut self, wanted: &Wanted) {
        let choice = self.hops.iter().rev().take(2).flat_map(|h| h.steps.iter().rev());
        let mut choices = choice.filter_map(|s| match s {
            Step::Choice { candidates, .. } => Some(candidates),
            _ => None,
        });
        let Some(candidates) = choices.next() else { return };
        let found: BTreeSet<Ipv4Addr> = candidates.iter().map(|c| c.address).collect();
        let wanted: BTreeSet<Ipv4Addr> = wanted.iter().map(|(a, _)| *a).collect();
        if found.is_disjoint(&wanted) {
            return;
        }
        let name = |address: &Ipv4Addr| match self.scene.owner(*address) {
            Some((name, _)) => format!("{address} ({name})"),
            None => address.to_string(),
        };
        let missing: Vec<String> = wanted.difference(&found).map(name).collect();
        if !missing.is_empty() {
            let text = format!("{} is in rotation, but not among them", missing.join(", "));
            self.step(Step::Finding { reason: Reason::RuleDiffers, text });
        }
    }
}
