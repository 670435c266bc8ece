//! The first steps of a walk: from a question to a packet.

use super::eval::{Evaluation, Ruling};
use super::packet::{Connection, Packet, Place};
use super::question::{Goal, Question, Start};
use super::report::{Outcome, Reason, Step};
use super::scene::Scene;
use super::walk::{Flow, Stop, Walker};
use crate::dns::look_up;
use crate::ids::SandboxId;
use crate::plan::{NsName, RESOLVER};
use crate::world::NameIndex;
use skep_types::Protocol;
use std::net::{IpAddr, Ipv4Addr};

impl<'a> Walker<'a> {
    /// A walk that has not begun.
    pub fn new(scene: &'a Scene<'a>, question: &Question, decisions: &'a [usize]) -> Self {
        let packet = Packet {
            source: None,
            destination: Ipv4Addr::UNSPECIFIED,
            protocol: question.protocol,
            port: question.port,
            mac: None,
            mark: 0,
            connection: Connection::default(),
        };
        let asked = (packet.destination, packet.port);
        Self { scene, decisions: decisions.iter(), hops: Vec::new(), packet, asked }
    }

    /// Walks.
    pub fn begin(&mut self, question: &Question, names: &NameIndex) -> Flow {
        match &question.goal {
            Goal::Nobody => {
                let text = format!(
                    "{} is neither a service that this host knows nor one of its addresses",
                    question.target
                );
                return Ok(self.verdict(Outcome::Unresolved, Reason::NoSuchName, text));
            }
            Goal::NotPublished(service, ports) => {
                let list: Vec<String> = ports
                    .iter()
                    .map(|p| format!("{}→{}/{}", p.published, p.target, p.protocol))
                    .collect();
                let text = match (question.port, list.is_empty()) {
                    (0, _) => format!("service {service} publishes no port"),
                    (port, true) => {
                        format!("service {service} does not publish {port}, nor any other port")
                    }
                    (port, false) => {
                        format!(
                            "service {service} does not publish {port}; it has {}",
                            list.join(", ")
                        )
                    }
                };
                return Ok(self.verdict(Outcome::Unresolved, Reason::NotPublished, text));
            }
            _ => {}
        }
        match &question.start {
            Start::Outside => self.start_outside(&question.goal),
            Start::Host => {
                self.packet.destination = match question.goal {
                    Goal::Address(address) => address,
                    _ => Ipv4Addr::LOCALHOST,
                };
                self.live(&NsName::Host)?;
                self.enter(&NsName::Host, None)?;
                self.emit(&NsName::Host)
            }
            Start::Container(id) => self.start_in_container(id, &question.goal, names),
        }
    }

    fn start_outside(&mut self, goal: &Goal) -> Flow {
        let live = self.live(&NsName::Host)?;
        let address = match goal {
            Goal::Address(address) => Some(*address),
            _ => self.front(),
        };
        let link = address
            .and_then(|a| live.owner(a))
            .filter(|_| address.is_some_and(|a| !a.is_loopback()));
        let (Some(address), Some(link)) = (address, link) else {
            let text = match address {
                Some(address) => {
                    format!("{address} is no address of this host; trace on the host that has it")
                }
                None => "this host has no address that others could reach".to_owned(),
            };
            return Ok(self.verdict(Outcome::Unresolved, Reason::NoSuchAddress, text));
        };
        self.packet.destination = address;
        let (name, up, passes) = (link.name.clone(), link.up, link.passes());
        self.enter(&NsName::Host, Some(&name))?;
        if !passes {
            let text =
                format!("interface {name} {}", if up { "has no carrier" } else { "is down" });
            return Ok(self.verdict(Outcome::Dropped, Reason::LinkDown, text));
        }
        self.arrive(&NsName::Host, &name)
    }

    /// The address by which others reach this host: the one it gives the swarm, else
    /// that of its default route, else any that is not on a bridge.
    fn front(&self) -> Option<Ipv4Addr> {
        let live = self.scene.live.get(&NsName::Host)?.as_ref().ok()?;
        if let Some(IpAddr::V4(address)) =
            self.scene.world.running.cluster.as_ref().map(|c| c.data_path_addr)
            && live.is_local(address)
        {
            return Some(address);
        }
        let by_route = live.route(None, 0).and_then(|hit| {
            let link = live.link_at(hit.route.link?)?;
            hit.route.source.or_else(|| live.address_of(&link.name))
        });
        by_route.or_else(|| {
            let outer = |index: u32| live.link_at(index).is_some_and(|l| !l.bridge);
            let mut found =
                live.addresses.iter().filter(|(i, a)| outer(*i) && !a.addr().is_loopback());
            found.next().map(|(_, a)| a.addr())
        })
    }

    fn start_in_container(&mut self, id: &SandboxId, goal: &Goal, names: &NameIndex) -> Flow {
        let ns = NsName::Sandbox(id.clone());
        self.live(&ns)?;
        self.enter(&ns, None)?;
        if let Some(hop) = self.hops.last_mut() {
            hop.packet = None;
        }
        self.packet.destination = match goal {
            Goal::Address(address) => *address,
            Goal::Name(name) => self.ask(id, &ns, name, names)?,
            _ => Ipv4Addr::LOCALHOST,
        };
        self.asked = (self.packet.destination, self.packet.port);
        self.packet.connection.original = Some(self.asked);
        self.emit(&ns)
    }

    /// What the container's resolver answers.
    fn ask(
        &mut self,
        id: &SandboxId,
        ns: &NsName,
        name: &str,
        names: &NameIndex,
    ) -> Result<Ipv4Addr, Stop> {
        let live = self.live(ns)?;
        let scene = self.scene;
        let lower = name.trim_end_matches('.').to_lowercase();
        let Some(sandbox) = scene.world.sandbox(id) else { return Err(Stop::Need(ns.clone())) };
        let extra = sandbox.spec.extra_hosts.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        if let Some(IpAddr::V4(address)) = extra.and_then(|h| h.address) {
            let network = "/etc/hosts".to_owned();
            self.step(Step::Name { name: name.to_owned(), network, answers: vec![address] });
            return Ok(address);
        }
        if !sandbox.wants_dns(scene.world) {
            let text = "names are not resolved on the default bridge network; use one of your own";
            return Err(self.end(Outcome::Unresolved, Reason::NoSuchName, text));
        }
        self.resolver(live)?;
        let networks: Vec<_> =
            sandbox.endpoints.iter().filter_map(|e| names.networks.get(&e.network)).collect();
        let Some(answers) = look_up(&lower, &networks) else {
            let on: Vec<&str> = networks.iter().map(|n| n.network.as_str()).collect();
            if let Some(service) = scene.known_service(name) {
                let text = format!(
                    "service {} has no task on a network of this container, so its name means \
                     nothing here ({} of {} wanted run)",
                    service.name, service.running, service.desired
                );
                return Err(self.end(Outcome::Unresolved, Reason::NoTask, text));
            }
            let text = format!(
                "{name} is no name on {}; the question goes on to outside name servers",
                if on.is_empty() { "any network".to_owned() } else { on.join(", ") }
            );
            return Err(self.end(Outcome::Unresolved, Reason::NoSuchName, text));
        };
        let knows = |n: &&&crate::world::NetworkNames| {
            let short = lower.strip_suffix(&format!(".{}", n.network));
            n.addresses.contains_key(&lower) || short.is_some_and(|s| n.addresses.contains_key(s))
        };
        let network = networks.iter().find(knows).map(|n| n.network.clone()).unwrap_or_default();
        self.step(Step::Name { name: name.to_owned(), network, answers: answers.clone() });
        match answers.as_slice() {
            [] => {
                let text = format!("{name} is known, but all its tasks are leaving rotation");
                Err(self.end(Outcome::Unresolved, Reason::AllDraining, text))
            }
            [only] => Ok(*only),
            several => {
                let candidates = several.iter().map(|a| self.candidate(live, *a, 1)).collect();
                let taken = self.choose(ns, "by chance", candidates)?;
                Ok(several.get(taken).copied().unwrap_or(Ipv4Addr::UNSPECIFIED))
            }
        }
    }

    /// Whether questions get from the container to the daemon's socket.
    fn resolver(&mut self, live: &'a crate::trace::live::Live) -> Result<(), Stop> {
        let mut query = Packet {
            source: Some(RESOLVER),
            destination: RESOLVER,
            protocol: Protocol::Udp,
            port: 53,
            mac: None,
            mark: 0,
            connection: Connection::default(),
        };
        let place = Place { local: true, own_source: true, ..Place::default() };
        let mut led = None;
        for (chain, hook) in live.tables.at("output") {
            let mut evaluation =
                Evaluation { live, packet: &mut query, place: place.clone(), events: Vec::new() };
            if let Ruling::Translate { to, .. } = evaluation.chain(chain)
                && hook.kind == "nat"
            {
                led = to.first().copied();
                break;
            }
        }
        let Some((address, Some(port))) = led else {
            let text = format!("no rule leads questions to {RESOLVER}:53 on to skep");
            self.finding(Reason::RuleMissing, text);
            let text = "names cannot be resolved in the container";
            return Err(self.end(Outcome::Unresolved, Reason::NoResolver, text));
        };
        if !live.listening(Protocol::Udp, port).any(|s| s.takes(address)) {
            let text = format!("nobody answers questions at {address}:{port}");
            return Err(self.end(Outcome::Unresolved, Reason::NoResolver, text));
        }
        Ok(())
    }
}
