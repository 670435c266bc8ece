//! Following a packet through namespaces: cables, bridges and tunnels.

use super::bridge::Next;
use super::live::Live;
use super::packet::Packet;
use super::report::{Hop, Interface, Outcome, Reason, Role, Step};
use super::walk::{Flow, Stop, Walker};
use crate::plan::{CablePlan, NsName};
use skep_types::Protocol;
use std::net::{IpAddr, Ipv4Addr};

impl<'a> Walker<'a> {
    /// Sends the packet out over a link.
    pub fn transmit(
        &mut self,
        ns: &NsName,
        live: &'a Live,
        out: &str,
        via: Option<Ipv4Addr>,
    ) -> Flow {
        let Some(link) = live.link(out) else {
            let text = format!("interface {out} is gone");
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkMissing, text));
        };
        // A bridge has a carrier while one of its ports has: what is wrong with the port is told below.
        if !link.up || !(link.carrier || link.bridge) {
            let text = format!("interface {out} {}", why_not(link.up));
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkDown, text));
        }
        let next = via.unwrap_or(self.packet.destination);
        let known = live.neighbour(link.index, next);
        self.step(Step::Neighbour {
            address: next,
            mac: known.and_then(|n| n.mac).map(|m| m.to_string()),
            state: known.map_or("none", |n| n.state).to_owned(),
        });
        self.packet.mac = link.mac;
        let hop = Next { address: next, mac: known.and_then(|n| n.mac) };
        if link.bridge {
            return self.switch(ns, live, out, hop, None);
        }
        let scene = self.scene;
        let cable = scene.plans.get(ns).and_then(|p| p.cables.iter().find(|c| c.interface == out));
        if let Some(cable) = cable {
            return self.cross(link.peer, cable, hop);
        }
        if known.is_some_and(|n| n.state == "failed") {
            let text = format!("{next} does not answer on {out}");
            return Ok(self.verdict(Outcome::Dropped, Reason::NodeUnreachable, text));
        }
        let text = format!("leaves this host by {out} to {next}; what follows cannot be read here");
        Ok(self.verdict(Outcome::Leaves, Reason::Ok, text))
    }

    /// Over a cable to the bridge at its other end.
    fn cross(&mut self, peer: Option<u32>, cable: &'a CablePlan, next: Next) -> Flow {
        let far = &cable.port_ns;
        let outer = self.live(far)?;
        self.enter(far, Some(&cable.port))?;
        self.port(outer, cable)?;
        if let (Some(peer), Some(port)) = (peer, outer.link(&cable.port))
            && peer != port.index
        {
            let text =
                format!("{} and {} are not two ends of one cable", cable.interface, cable.port);
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkMissing, text));
        }
        self.switch(far, outer, &cable.bridge, next, Some(cable))
    }

    /// Whether a bridge's port lets packets pass.
    fn port(&self, outer: &Live, cable: &CablePlan) -> Result<Interface, Stop> {
        let Some(port) = outer.link(&cable.port) else {
            let text = format!("port {} of {} is gone", cable.port, cable.bridge);
            return Err(self.end(Outcome::Dropped, Reason::LinkMissing, text));
        };
        let Some(bridge) = outer.link(&cable.bridge) else {
            let text = format!("bridge {} is gone", cable.bridge);
            return Err(self.end(Outcome::Dropped, Reason::LinkMissing, text));
        };
        if !port.passes() || !bridge.up {
            let (name, up) =
                if port.passes() { (&bridge.name, bridge.up) } else { (&port.name, port.up) };
            let text = format!("interface {name} {}", why_not(up));
            return Err(self.end(Outcome::Dropped, Reason::LinkDown, text));
        }
        if port.master != Some(bridge.index) {
            let text = format!("port {} is not on bridge {}", port.name, bridge.name);
            return Err(self.end(Outcome::Dropped, Reason::LinkDetached, text));
        }
        Ok(Interface::from(port))
    }

    /// From a bridge to whoever on it has the address.
    fn switch(
        &mut self,
        ns: &NsName,
        live: &'a Live,
        bridge: &str,
        hop: Next,
        from: Option<&CablePlan>,
    ) -> Flow {
        let next = hop.address;
        if let Some(own) = live.owner(next).filter(|l| l.name == bridge) {
            self.forwarded(live, (own, from.is_some()), hop, (own, own.mac))?;
            return self.arrive(ns, bridge);
        }
        let scene = self.scene;
        let mut cables =
            scene.plans.iter().flat_map(|(ns, p)| p.cables.iter().map(move |c| (ns, c)));
        let found = cables.find(|(_, c)| {
            c.port_ns == *ns && c.bridge == bridge && c.addresses.iter().any(|a| a.addr() == next)
        });
        let Some((inner, cable)) = found else {
            return self.tunnel(ns, live, bridge, hop, from);
        };
        // First, for a namespace that is not there takes its port with it.
        let target = self.live(inner)?;
        let port = self.port(live, cable)?;
        if let (Some(bridge), Some(port)) = (live.link(bridge), live.link(&cable.port)) {
            let mac = target.link(&cable.interface).and_then(|l| l.mac);
            self.forwarded(live, (bridge, from.is_some()), hop, (port, mac))?;
        }
        self.step(Step::Port { bridge: bridge.to_owned(), port });
        if cable.isolated && from.is_some_and(|f| f.isolated) {
            let text = format!("two isolated ports of {bridge} may not talk to each other");
            return Ok(self.verdict(Outcome::Dropped, Reason::RuleDrops, text));
        }
        self.enter(inner, Some(&cable.interface))?;
        let Some(link) = target.link(&cable.interface) else {
            let text = format!("interface {} is gone", cable.interface);
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkMissing, text));
        };
        if !link.passes() {
            let text = format!("interface {} {}", link.name, why_not(link.up));
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkDown, text));
        }
        if !target.is_local(next) {
            let text = format!("interface {} has lost the address {next}", link.name);
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkMissing, text));
        }
        self.arrive(inner, &cable.interface)
    }

    /// Through the VXLAN device of a bridge to another host.
    fn tunnel(
        &mut self,
        ns: &NsName,
        live: &'a Live,
        bridge: &str,
        hop: Next,
        from: Option<&CablePlan>,
    ) -> Flow {
        let next = hop.address;
        let above = live.link(bridge);
        let device = live
            .links
            .iter()
            .find(|l| l.vxlan.is_some() && l.master == above.map(|bridge| bridge.index));
        let planned = self.scene.plans.get(ns).into_iter().flat_map(|p| &p.vxlans);
        let planned = planned.flat_map(|v| &v.peers).find(|(address, _, _)| *address == next);
        let Some((device, (vni, port, local))) = device.and_then(|d| Some((d, d.vxlan?))) else {
            let (reason, text) = match planned {
                Some(_) => (Reason::LinkMissing, format!("bridge {bridge} has no VXLAN device")),
                None => (Reason::NoSuchAddress, format!("nobody on {bridge} has {next}")),
            };
            return Ok(self.verdict(Outcome::Dropped, reason, text));
        };
        // The kernel forgets the entries of a device that goes down: this is the cause, they are not.
        if !device.up {
            let text = format!("{} is down", device.name);
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkDown, text));
        }
        let known = live.neighbour(device.index, next);
        let Some(mac) = known.and_then(|n| n.mac) else {
            let (reason, text) = match planned {
                Some((_, _, node)) => (
                    Reason::NoForwardingEntry,
                    format!(
                        "{} has no neighbour entry for {next}, which is on {node}",
                        device.name
                    ),
                ),
                None => (Reason::NoSuchAddress, format!("no host of the swarm has told of {next}")),
            };
            return Ok(self.verdict(Outcome::Dropped, reason, text));
        };
        self.step(Step::Neighbour {
            address: next,
            mac: Some(mac.to_string()),
            state: known.map_or("none", |n| n.state).to_owned(),
        });
        if let Some(bridge) = above {
            self.forwarded(live, (bridge, from.is_some()), hop, (device, Some(mac)))?;
        }
        let entry = live.forwarding.iter().find(|f| f.link == device.index && f.mac == mac);
        let Some(remote) = entry.map(|f| f.node) else {
            let text = format!("{} has no forwarding entry for {mac} ({next})", device.name);
            return Ok(self.verdict(Outcome::Dropped, Reason::NoForwardingEntry, text));
        };
        let local = local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.step(Step::Tunnel {
            device: Interface::from(device),
            vni,
            port,
            local,
            remote,
            mac: mac.to_string(),
        });
        if let Some((_, _, node)) = planned.filter(|(_, _, node)| *node != remote) {
            self.finding(Reason::RuleDiffers, format!("the entry should lead to {node}"));
        }
        self.underlay(next, remote, local, port)
    }

    /// The outer packet's way out of the host, and what is told of the other end.
    fn underlay(&mut self, next: Ipv4Addr, remote: IpAddr, local: IpAddr, port: u16) -> Flow {
        let inner = self.packet.clone();
        if let (IpAddr::V4(remote), IpAddr::V4(local)) = (remote, local) {
            self.packet = Packet {
                source: Some(local).filter(|l| !l.is_unspecified()),
                destination: remote,
                protocol: Protocol::Udp,
                port,
                mac: None,
                mark: 0,
                connection: Default::default(),
            };
            self.live(&NsName::Host)?;
            self.enter(&NsName::Host, None)?;
            let outer = self.emit(&NsName::Host)?;
            if outer.outcome != Outcome::Leaves {
                return Ok(outer);
            }
        }
        self.packet = inner;
        let node = self.scene.nodes.get(&remote).cloned();
        let shown = match &node {
            Some(name) => format!("{name} ({remote})"),
            None => remote.to_string(),
        };
        let record = self.scene.remote_record(next);
        let mut steps = Vec::new();
        if let Some(record) = record {
            let port = record
                .ingress_ports
                .iter()
                .find(|p| p.protocol == self.packet.protocol && p.published == self.packet.port);
            let redirect = port
                .map(|p| format!(" redirects {} to {} and", p.published, p.target))
                .unwrap_or_default();
            steps.push(Step::Remark {
                text: format!(
                    "{}{redirect} was announced by that host; its kernel can be read there only",
                    record.name
                ),
            });
            if record.disabled {
                let text = format!("{} is leaving rotation", record.name);
                steps.push(Step::Finding { reason: Reason::AllDraining, text });
            }
        }
        self.hops.push(Hop {
            namespace: remote.to_string(),
            role: Role::Remote,
            name: node.unwrap_or_default(),
            interface: None,
            packet: None,
            steps,
        });
        let what = record.map_or_else(|| next.to_string(), |r| r.name.clone());
        let text = format!("handed to {shown} for {what}; for the rest, trace there");
        Ok(self.verdict(Outcome::Remote, Reason::Ok, text))
    }
}

fn why_not(up: bool) -> &'static str {
    if up { "has no carrier" } else { "is down" }
}
