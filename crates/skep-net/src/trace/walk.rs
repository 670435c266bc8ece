//! Following a packet through namespaces: what the IP layer does.
//!
//! The walk is replayed from its start whenever it has to know or decide something:
//! it stops at a namespace that was not read yet, and at a choice for which no
//! decision was given. So it needs no state of its own and stays pure.

use super::eval::{Applied, Evaluation, Event, Manner, Ruling};
use super::live::{Live, RouteKind};
use super::packet::{Connection, Packet, Place};
use super::report::{
    Candidate, Hop, Interface, Outcome, PacketView, Reason, RemoteNode, Role, Step, Verdict,
};
use super::scene::Scene;
use crate::plan::{NsName, TABLE};
use skep_types::Protocol;
use std::net::Ipv4Addr;

/// Hops after which a packet goes in circles.
const HOPS: usize = 32;

/// Why a walk stopped before its end was reached.
#[derive(Debug)]
pub enum Stop {
    /// A namespace has to be read first.
    Need(NsName),
    /// One of these has to be chosen.
    Fork(Vec<Candidate>),
    /// This was the end.
    End(Verdict),
}

/// How a stretch of a walk ends.
pub type Flow = Result<Verdict, Stop>;

/// One packet on its way.
pub struct Walker<'a> {
    pub scene: &'a Scene<'a>,
    /// Which candidate to take at each fork.
    pub decisions: std::slice::Iter<'a, usize>,
    pub hops: Vec<Hop>,
    pub packet: Packet,
    /// Destination and port as the current namespace got them.
    pub asked: (Ipv4Addr, u16),
}

impl<'a> Walker<'a> {
    /// The namespace's state.
    pub fn live(&self, ns: &NsName) -> Result<&'a Live, Stop> {
        match self.scene.live.get(ns) {
            None => Err(Stop::Need(ns.clone())),
            Some(Ok(live)) => Ok(live),
            Some(Err(why)) => Err(self.end(
                Outcome::Dropped,
                Reason::NamespaceMissing,
                format!("namespace {ns} cannot be read: {why}"),
            )),
        }
    }

    /// Enters a namespace.
    pub fn enter(&mut self, ns: &NsName, link: Option<&str>) -> Result<(), Stop> {
        if self.hops.len() >= HOPS {
            return Err(self.end(Outcome::Dropped, Reason::Loop, "the packet goes in circles"));
        }
        let (role, name) = self.scene.role(ns);
        let live = self.scene.live.get(ns).and_then(|l| l.as_ref().ok());
        let interface = link.map(|name| match live.and_then(|l| l.link(name)) {
            Some(link) => Interface::from(link),
            None => Interface { name: name.to_owned(), ..Interface::default() },
        });
        self.hops.push(Hop {
            namespace: ns.to_string(),
            role,
            name,
            interface,
            packet: Some(self.view()),
            steps: Vec::new(),
        });
        // Namespaces track connections each for itself.
        let original = Some((self.packet.destination, self.packet.port));
        self.packet.connection = Connection { original, ..Connection::default() };
        self.packet.mark = 0;
        self.asked = (self.packet.destination, self.packet.port);
        Ok(())
    }

    fn view(&self) -> PacketView {
        PacketView {
            source: self.packet.source,
            destination: self.packet.destination,
            port: self.packet.port,
            protocol: self.packet.protocol,
        }
    }

    /// Notes a step of the current hop.
    pub fn step(&mut self, step: Step) {
        if let Some(hop) = self.hops.last_mut() {
            hop.steps.push(step);
        }
    }

    /// Notes that something is not as it should be.
    pub fn finding(&mut self, reason: Reason, text: impl Into<String>) {
        self.step(Step::Finding { reason, text: text.into() });
    }

    /// An end in the current namespace.
    pub fn verdict(&self, outcome: Outcome, reason: Reason, text: impl Into<String>) -> Verdict {
        let at = self.hops.last().map(|h| h.namespace.clone()).unwrap_or_default();
        Verdict { outcome, reason, at, text: text.into() }
    }

    /// The same as a reason to stop.
    pub fn end(&self, outcome: Outcome, reason: Reason, text: impl Into<String>) -> Stop {
        Stop::End(self.verdict(outcome, reason, text))
    }

    /// A packet that comes in over a link, whose hop is entered.
    pub fn arrive(&mut self, ns: &NsName, link: &str) -> Flow {
        let live = self.live(ns)?;
        let asked = (self.packet.destination, self.packet.port);
        let place = self.place(live, Some(link), None);
        self.hook(ns, live, "prerouting", place)?;
        self.expect(ns, live, Some(link), asked);
        if live.is_local(self.packet.destination) {
            return self.deliver(ns, live, link);
        }
        let (out, via) = match self.route(ns, live)? {
            Some(found) => found,
            None => return self.deliver(ns, live, link),
        };
        if !live.forwards {
            return Ok(self.verdict(
                Outcome::Dropped,
                Reason::NotForwarding,
                format!("net.ipv4.ip_forward is 0 in {ns}: packets for others end here"),
            ));
        }
        let place = self.place(live, Some(link), Some(&out));
        self.hook(ns, live, "forward", place.clone())?;
        self.hook(ns, live, "postrouting", place)?;
        self.transmit(ns, live, &out, via)
    }

    /// A packet that is made in a namespace, whose hop is entered.
    pub fn emit(&mut self, ns: &NsName) -> Flow {
        let live = self.live(ns)?;
        let asked = (self.packet.destination, self.packet.port);
        let first = live.route(Some(self.packet.destination), self.packet.mark);
        if self.packet.source.is_none() {
            self.packet.source = if live.is_local(self.packet.destination) {
                Some(self.packet.destination)
            } else {
                first.as_ref().and_then(|hit| {
                    let link = hit.route.link.and_then(|index| live.link_at(index));
                    hit.route.source.or_else(|| live.address_of(&link?.name))
                })
            };
        }
        let out = first.and_then(|hit| live.link_at(hit.route.link?)).map(|l| l.name.clone());
        let place = self.place(live, None, out.as_deref());
        self.hook(ns, live, "output", place)?;
        self.expect(ns, live, None, asked);
        if live.is_local(self.packet.destination) {
            return self.deliver(ns, live, "lo");
        }
        let Some((out, via)) = self.route(ns, live)? else { return self.deliver(ns, live, "lo") };
        let place = self.place(live, None, Some(&out));
        self.hook(ns, live, "postrouting", place)?;
        self.transmit(ns, live, &out, via)
    }

    fn place(&self, live: &Live, incoming: Option<&str>, outgoing: Option<&str>) -> Place {
        Place {
            incoming: incoming.map(str::to_owned),
            outgoing: outgoing.map(str::to_owned),
            local: live.is_local(self.packet.destination),
            own_source: self.packet.source.is_some_and(|s| live.is_local(s)),
        }
    }

    /// The way on: link and next hop; `None` for the namespace itself.
    fn route(
        &mut self,
        ns: &NsName,
        live: &Live,
    ) -> Result<Option<(String, Option<Ipv4Addr>)>, Stop> {
        let to = self.packet.destination;
        let Some(hit) = live.route(Some(to), self.packet.mark) else {
            let text = format!("there is no route to {to}");
            return Err(self.end(Outcome::Refused, Reason::NoRoute, text));
        };
        let route = hit.route;
        if route.kind == RouteKind::Local {
            return Ok(None);
        }
        let link = route.link.and_then(|index| live.link_at(index));
        let (RouteKind::Unicast, Some(link)) = (route.kind, link) else {
            let text = format!("the route to {} leads nowhere", route.destination);
            return Err(self.end(Outcome::Refused, Reason::NoRoute, text));
        };
        self.step(Step::Route {
            destination: route.destination.to_string(),
            via: route.via,
            interface: link.name.clone(),
            table: route.table,
        });
        self.expect_route(ns, live, &link.name);
        Ok(Some((link.name.clone(), route.via)))
    }

    /// Asks the chains of a hook.
    pub fn hook(
        &mut self,
        ns: &NsName,
        live: &'a Live,
        name: &str,
        place: Place,
    ) -> Result<(), Stop> {
        let mut translated = false;
        for (chain, hook) in live.tables.at(name) {
            let nat = hook.kind == "nat";
            let known = self.packet.connection;
            if nat && (translated || known.established || known.untracked) {
                continue;
            }
            let mut evaluation = Evaluation {
                live,
                packet: &mut self.packet,
                place: place.clone(),
                events: Vec::new(),
            };
            let ruling = evaluation.chain(chain);
            let events = evaluation.events;
            self.note(events);
            match ruling {
                Ruling::None if hook.drops => {
                    let text = format!(
                        "chain {} of table {} drops what no rule of it lets through",
                        chain.name, chain.table
                    );
                    return Err(self.end(Outcome::Dropped, Reason::ForeignRule, text));
                }
                Ruling::None | Ruling::Accept => {}
                Ruling::Drop(by) => return Err(self.no(Outcome::Dropped, by)),
                Ruling::Reject(by) => return Err(self.no(Outcome::Refused, by)),
                Ruling::Translate { to, manner, by } => {
                    translated = true;
                    self.translate(ns, live, &to, manner, by)?;
                }
                Ruling::Disguise { to, by } => {
                    translated = true;
                    let out = place.outgoing.as_deref().and_then(|out| live.address_of(out));
                    self.packet.source = to.or(out);
                    self.packet.connection.snat = true;
                    let shown = self.packet.source.map(|s| s.to_string()).unwrap_or_default();
                    self.rule(by, format!("source becomes {shown}"));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, events: Vec<Event<'_>>) {
        for event in events {
            match event {
                Event::Mark(by, value) => {
                    // Only answers are of a connection that is known already: see `way_back`.
                    let answers = self.packet.connection.established;
                    let whose = if answers { "mark of its answers" } else { "packet mark" };
                    self.rule(by, format!("{whose} becomes {value:#x}"));
                    self.step(Step::Mark { on: "packet".to_owned(), value });
                }
                Event::ConnectionMark(by, value) => {
                    self.rule(by, format!("connection mark becomes {value:#x}"));
                    self.step(Step::Mark { on: "connection".to_owned(), value });
                }
                Event::Unclear(by) => {
                    let text = format!(
                        "cannot tell from here whether this applies, taken as not: {} \
                         (table {}, chain {}, handle {})",
                        by.rule.text, by.chain.table, by.chain.name, by.rule.handle
                    );
                    self.step(Step::Remark { text });
                }
            }
        }
    }

    fn rule(&mut self, by: Applied<'_>, effect: String) {
        self.step(Step::Rule {
            table: by.chain.table.to_string(),
            chain: by.chain.name.clone(),
            handle: by.rule.handle,
            text: by.rule.text.clone(),
            effect,
            counted: by.counted(),
        });
    }

    fn no(&mut self, outcome: Outcome, by: Applied<'_>) -> Stop {
        let ours = by.chain.table.name == TABLE && by.chain.table.family == "ip";
        let word = if outcome == Outcome::Dropped { "dropped" } else { "rejected" };
        self.rule(by, word.to_owned());
        let text = format!(
            "{word} by a rule of {}, table {}, chain {}, handle {}",
            if ours { "skep" } else { "somebody else" },
            by.chain.table,
            by.chain.name,
            by.rule.handle
        );
        self.end(outcome, if ours { Reason::RuleDrops } else { Reason::ForeignRule }, text)
    }

    fn translate(
        &mut self,
        ns: &NsName,
        live: &Live,
        to: &[(Ipv4Addr, Option<u16>)],
        manner: Manner,
        by: Applied<'_>,
    ) -> Result<(), Stop> {
        let (address, port) = self.asked;
        let protocol = self.packet.protocol;
        let shown = |(to, new): (Ipv4Addr, Option<u16>)| format!("{to}:{}", new.unwrap_or(port));
        let chosen = match (manner, to) {
            (Manner::Fixed, [only]) => {
                let mut effect = if only.0 == address {
                    format!("port becomes {}", only.1.unwrap_or(port))
                } else {
                    format!("destination becomes {}", shown(*only))
                };
                if let Some(name) = self.candidate(live, only.0, 1).task
                    && only.0 != address
                {
                    effect = format!("{effect} ({name})");
                }
                self.rule(by, effect);
                let count = live.connections(protocol, address, port, None);
                if count > 0 {
                    self.step(Step::Connections { count });
                }
                *only
            }
            _ => {
                let how = if manner == Manner::ByChance { "by chance" } else { "in turn" };
                let count = to.len();
                let same = to
                    .first()
                    .and_then(|(_, new)| *new)
                    .filter(|new| *new != port && to.iter().all(|(_, other)| *other == Some(*new)));
                let effect = match same {
                    Some(new) => format!("destination becomes port {new} of one of {count}, {how}"),
                    None => format!("destination becomes one of {count}, {how}"),
                };
                self.rule(by, effect);
                let mut places: Vec<((Ipv4Addr, Option<u16>), usize)> = Vec::new();
                for one in to {
                    match places.iter_mut().find(|(place, _)| place == one) {
                        Some((_, turns)) => *turns += 1,
                        None => places.push((*one, 1)),
                    }
                }
                let candidates =
                    places.iter().map(|((a, _), turns)| self.candidate(live, *a, *turns)).collect();
                let taken = self.choose(ns, how, candidates)?;
                match places.get(taken) {
                    Some((to, _)) => *to,
                    None => return Ok(()),
                }
            }
        };
        self.packet.destination = chosen.0;
        self.packet.port = chosen.1.unwrap_or(self.packet.port);
        self.packet.connection.dnat = chosen != (address, None) && chosen != (address, Some(port));
        Ok(())
    }

    /// Stops at a fork, or goes on as decided, in a hop of its own.
    pub fn choose(
        &mut self,
        ns: &NsName,
        how: &str,
        candidates: Vec<Candidate>,
    ) -> Result<usize, Stop> {
        self.step(Step::Choice { how: how.to_owned(), candidates: candidates.clone() });
        let Some(taken) = self.decisions.next() else { return Err(Stop::Fork(candidates)) };
        let (connection, mark, asked) = (self.packet.connection, self.packet.mark, self.asked);
        self.enter(ns, None)?;
        if let Some(hop) = self.hops.last_mut() {
            // The same namespace goes on; the packet was shown.
            hop.packet = None;
        }
        self.packet.connection = connection;
        self.packet.mark = mark;
        self.asked = asked;
        Ok(*taken)
    }

    /// Whose an address is that has so many turns.
    pub fn candidate(&self, live: &Live, address: Ipv4Addr, turns: usize) -> Candidate {
        let (to, port) = self.asked;
        let (task, node) = match self.scene.owner(address) {
            Some((name, node)) => (Some(name), node),
            None => (None, None),
        };
        let node = node
            .map(|address| RemoteNode { address, name: self.scene.nodes.get(&address).cloned() });
        let connections = live.connections(self.packet.protocol, to, port, Some(address));
        let mesh = self.scene.world.mesh_address().is_some_and(|m| m.addr() == address);
        Candidate { address, task, node, mesh, turns, connections }
    }

    /// A packet for the namespace itself.
    fn deliver(&mut self, ns: &NsName, live: &'a Live, link: &str) -> Flow {
        let place = Place { local: true, ..self.place(live, Some(link), None) };
        self.hook(ns, live, "input", place)?;
        let Packet { destination, port, protocol, .. } = self.packet;
        if protocol == Protocol::Sctp {
            self.step(Step::Remark { text: "the kernel does not tell who listens on SCTP".into() });
            let text = format!("{destination}:{port}/sctp is reached");
            return Ok(self.verdict(Outcome::Delivered, Reason::Ok, text));
        }
        let found = live.listening(protocol, port).find(|s| s.takes(destination));
        let who = match self.scene.role(ns) {
            (Role::Container, name) => name,
            (Role::Host, _) => "a program on the host".to_owned(),
            (_, _) => format!("namespace {ns}"),
        };
        let Some(socket) = found else {
            return Ok(self.closed(ns, live, &who));
        };
        self.step(Step::Socket { address: socket.address, port });
        if *ns == NsName::Host && self.has_finding() {
            let text = if self.scene.blocked.contains_key(&(protocol, self.asked.1)) {
                "so another program on this host gets the connection"
            } else {
                "so the connection ends at the socket with which skep holds the port, and nobody answers"
            };
            return Ok(self.verdict(Outcome::Astray, Reason::RuleMissing, text));
        }
        self.way_back(ns, live)?;
        let text = format!("{who} listens on {}", std::net::SocketAddr::new(socket.address, port));
        Ok(self.verdict(Outcome::Delivered, Reason::Ok, text))
    }

    fn closed(&self, ns: &NsName, live: &Live, who: &str) -> Verdict {
        let Packet { destination, port, protocol, .. } = self.packet;
        let elsewhere: Vec<String> =
            live.listening(protocol, port).map(|s| s.address.to_string()).collect();
        if !elsewhere.is_empty() {
            let text = format!(
                "{who} listens on port {port} only at {}, not at {destination}",
                elsewhere.join(" and ")
            );
            return self.verdict(Outcome::Refused, Reason::PortElsewhere, text);
        }
        if *ns == NsName::Host {
            let text = format!("nobody publishes {port}/{protocol} or listens on it on this host");
            return self.verdict(Outcome::Refused, Reason::NotPublished, text);
        }
        let mut others: Vec<String> = live
            .sockets
            .iter()
            .filter(|s| s.protocol == protocol && !s.address.is_loopback())
            .map(|s| s.port.to_string())
            .collect();
        others.dedup();
        let hint = if others.is_empty() || !ns.is_sandbox() {
            String::new()
        } else {
            format!(" (it listens on {})", others.join(", "))
        };
        let text = format!("nobody in {who} listens on {port}/{protocol}{hint}");
        self.verdict(Outcome::Refused, Reason::PortClosed, text)
    }

    /// Where a task's answers go, once a mark says which balancer sent the connection.
    fn way_back(&mut self, ns: &NsName, live: &'a Live) -> Result<(), Stop> {
        let mark = self.packet.connection.mark;
        if mark == 0 {
            return Ok(());
        }
        let asked = self.packet.clone();
        let answer = Packet {
            source: Some(asked.destination),
            destination: asked.source.unwrap_or(Ipv4Addr::UNSPECIFIED),
            mac: None,
            mark: 0,
            connection: Connection { established: true, ..asked.connection },
            ..asked.clone()
        };
        self.packet = answer;
        let place = self.place(live, None, None);
        let judged = self.hook(ns, live, "output", place);
        let mark = self.packet.mark;
        let to = asked.source;
        self.packet = asked;
        judged?;
        let Some(hit) = live.route(to, mark) else {
            let text = "answers have no route back";
            return Err(self.end(Outcome::Dropped, Reason::WayBack, text));
        };
        let link = hit.route.link.and_then(|i| live.link_at(i)).map(|l| l.name.clone());
        let interface = link.unwrap_or_default();
        self.step(Step::Reply {
            via: hit.route.via,
            interface: interface.clone(),
            table: hit.route.table,
        });
        let came = self.hops.last().and_then(|h| h.interface.as_ref()).map(|i| i.name.clone());
        if came.as_ref().is_some_and(|came| *came != interface) {
            let text = format!(
                "the task gets the connection, but its answers would leave by {interface} and \
                 not through the balancer that can undo its translation"
            );
            return Err(self.end(Outcome::Dropped, Reason::WayBack, text));
        }
        Ok(())
    }

    /// Whether something was found to be wrong so far.
    pub fn has_finding(&self) -> bool {
        self.hops.iter().flat_map(|h| &h.steps).any(|s| matches!(s, Step::Finding { .. }))
    }
}
