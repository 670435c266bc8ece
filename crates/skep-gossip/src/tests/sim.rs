//! A cluster in one process: every message goes through a network that the seed rules.

use crate::{Config, EntryId, Event, Gossip, Keyring, Moment, NetworkId, NodeName, Output, Token};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

/// Index of a host; its address outlives the nodes that run there.
pub type Host = usize;

/// What a node's driver knows from events alone.
pub type View = BTreeMap<EntryId, (Vec<u8>, NodeName)>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Delivery {
    Packet { from: Host, to: Host, bytes: Vec<u8> },
    Request { from: Host, to: Host, life: u64, token: Token, bytes: Vec<u8>, reply: bool },
    Reply { to: Host, life: u64, token: Token, bytes: Option<Vec<u8>> },
    Sent { to: Host, life: u64, token: Token },
}

/// One host with the node that runs on it, if one does.
pub struct Place {
    pub node: Option<Gossip>,
    /// Stopped, as by SIGSTOP: what arrives waits.
    pub paused: bool,
    waiting: Vec<Delivery>,
    life: u64,
    pub view: View,
    /// Questions of this host, by number and who answered.
    pub answers: BTreeSet<(u64, NodeName)>,
}

pub struct Sim {
    pub rng: StdRng,
    pub now: Moment,
    pub places: Vec<Place>,
    queue: BinaryHeap<Reverse<(Moment, u64, Delivery)>>,
    order: u64,
    /// Share of packets lost, and doubled.
    pub loss: f64,
    pub doubled: f64,
    /// Longest delay of a packet; milliseconds.
    pub delay: u64,
    /// Directions in which nothing gets through.
    pub cut: BTreeSet<(Host, Host)>,
    keyring: Option<Keyring>,
    /// Who owns what, by the commands given.
    pub truth: BTreeMap<NodeName, BTreeMap<EntryId, Vec<u8>>>,
    pub trace: u64,
    /// Bytes that nodes sent, lost ones too.
    pub bytes: u64,
}

impl Sim {
    pub fn new(seed: u64, hosts: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keyring = rng.random_bool(0.25).then(|| Keyring::new(&[vec![1; 16]], 0).unwrap());
        let mut sim = Self {
            rng,
            now: Moment::from_millis(1_000),
            places: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            loss: 0.0,
            doubled: 0.0,
            delay: 3,
            cut: BTreeSet::new(),
            keyring,
            truth: BTreeMap::new(),
            trace: 0,
            bytes: 0,
        };
        for host in 0..hosts {
            let (waiting, view, answers) = (Vec::new(), View::new(), BTreeSet::new());
            sim.places.push(Place { node: None, paused: false, waiting, life: 0, view, answers });
            sim.start(host);
        }
        sim
    }

    pub fn address(host: Host) -> SocketAddr {
        ([192, 0, 2, host as u8 + 1], 7946).into()
    }

    fn host(address: SocketAddr) -> Option<Host> {
        match address {
            SocketAddr::V4(v4) => usize::from(v4.ip().octets()[3]).checked_sub(1),
            SocketAddr::V6(_) => None,
        }
    }

    /// Starts a node with a new name; hosts 0 and 1 are the bootstrap peers.
    pub fn start(&mut self, host: Host) {
        let name = NodeName::from_random(self.rng.random());
        let config = Config::new(name.clone(), Self::address(host), self.keyring.clone());
        let mut node = Gossip::new(config, self.now, self.rng.random());
        node.set_bootstrap(vec![Self::address(0), Self::address(1)], self.now);
        let place = &mut self.places[host];
        place.node = Some(node);
        place.paused = false;
        place.waiting.clear();
        place.life += 1;
        place.view.clear();
        self.truth.insert(name, BTreeMap::new());
        self.carry_out(host);
    }

    /// Ends a node without a word.
    pub fn kill(&mut self, host: Host) {
        if let Some(node) = self.places[host].node.take() {
            self.truth.remove(node.name());
        }
        self.places[host].waiting.clear();
    }

    /// Gives a command to a running node.
    pub fn command<T>(&mut self, host: Host, act: impl FnOnce(&mut Gossip, Moment) -> T) -> T {
        let now = self.now;
        let done = act(self.places[host].node.as_mut().expect("the node runs"), now);
        self.carry_out(host);
        done
    }

    pub fn put(&mut self, host: Host, id: &EntryId, value: &[u8]) {
        let name = self.name(host);
        self.command(host, |node, now| node.put(id.clone(), value.to_vec(), now)).unwrap();
        self.truth.entry(name).or_default().insert(id.clone(), value.to_vec());
    }

    pub fn delete(&mut self, host: Host, id: &EntryId) {
        let name = self.name(host);
        self.command(host, |node, now| node.delete(id, now)).unwrap();
        self.truth.entry(name).or_default().remove(id);
    }

    pub fn join(&mut self, host: Host, network: &NetworkId) {
        self.command(host, |node, now| node.join_network(network, now)).unwrap();
    }

    pub fn leave_network(&mut self, host: Host, network: &NetworkId) {
        let name = self.name(host);
        self.command(host, |node, now| node.leave_network(network, now)).unwrap();
        self.truth.entry(name).or_default().retain(|id, _| id.network != *network);
    }

    pub fn name(&self, host: Host) -> NodeName {
        self.node(host).name().clone()
    }

    pub fn node(&self, host: Host) -> &Gossip {
        self.places[host].node.as_ref().expect("the node runs")
    }

    pub fn running(&self) -> Vec<Host> {
        (0..self.places.len()).filter(|h| self.places[*h].node.is_some()).collect()
    }

    fn at(&mut self, after: u64, delivery: Delivery) {
        self.order += 1;
        let at = self.now + Duration::from_millis(after);
        self.queue.push(Reverse((at, self.order, delivery)));
    }

    fn passes(&self, from: Host, to: Host) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Carries out what the node on `host` wants.
    fn carry_out(&mut self, host: Host) {
        let place = &mut self.places[host];
        let life = place.life;
        let Some(outputs) = place.node.as_mut().map(Gossip::take_outputs) else { return };
        for output in outputs {
            match output {
                Output::Packet { to, bytes } => {
                    self.bytes += bytes.len() as u64;
                    let Some(to) = Self::host(to).filter(|to| self.passes(host, *to)) else {
                        continue;
                    };
                    let copies = if self.rng.random_bool(self.doubled) { 2 } else { 1 };
                    for _ in 0..copies {
                        if !self.rng.random_bool(self.loss) {
                            let delay = self.rng.random_range(0..=self.delay);
                            let bytes = bytes.clone();
                            self.at(delay, Delivery::Packet { from: host, to, bytes });
                        }
                    }
                }
                Output::Stream { token, to, bytes, expects_reply: reply, timeout } => {
                    self.bytes += bytes.len() as u64;
                    let reached = Self::host(to).filter(|to| {
                        self.passes(host, *to)
                            && self.passes(*to, host)
                            && self.places.get(*to).is_some_and(|p| p.node.is_some())
                    });
                    match reached {
                        Some(to) => {
                            let delay = self.rng.random_range(0..=3 * self.delay);
                            let request =
                                Delivery::Request { from: host, to, life, token, bytes, reply };
                            self.at(delay, request);
                        }
                        None => {
                            let after = u64::try_from(timeout.as_millis()).unwrap();
                            let failed = Delivery::Reply { to: host, life, token, bytes: None };
                            self.at(after, failed);
                        }
                    }
                }
                Output::Event(Event::Asked { from, number, question }) => {
                    // Whether the entry of that key has that value here.
                    let place = &mut self.places[host];
                    let told = place.view.iter().any(|(id, (value, owner))| {
                        *owner == from
                            && [id.key.as_str().as_bytes(), b"=", value].concat() == question
                    });
                    if let (Some(node), true) = (&mut place.node, told) {
                        node.answer_node(&from, number, self.now);
                        self.carry_out(host);
                    }
                }
                Output::Event(Event::Answered { from, number }) => {
                    self.places[host].answers.insert((number, from));
                }
                Output::Event(event) => apply(&mut self.places[host].view, event),
            }
        }
    }

    /// Runs for `time`.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let delivery = self.queue.peek().map(|Reverse((at, _, _))| *at);
            let tick = self.next_tick();
            let next = [delivery, tick.map(|(at, _)| at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if delivery.is_some_and(|at| at <= next) {
                let Some(Reverse((_, _, delivery))) = self.queue.pop() else { continue };
                self.deliver(delivery);
            } else if let Some((_, host)) = tick {
                self.trace = self.trace.wrapping_mul(31) ^ self.now.as_millis() ^ host as u64;
                self.command(host, Gossip::tick);
            }
        }
        self.now = end;
    }

    fn next_tick(&self) -> Option<(Moment, Host)> {
        let ticks = self.places.iter().enumerate().filter(|(_, place)| !place.paused);
        let ticks = ticks.filter_map(|(h, place)| Some((place.node.as_ref()?.next_deadline()?, h)));
        ticks.min()
    }

    fn deliver(&mut self, delivery: Delivery) {
        let to = match &delivery {
            Delivery::Packet { to, .. }
            | Delivery::Request { to, .. }
            | Delivery::Reply { to, .. }
            | Delivery::Sent { to, .. } => *to,
        };
        let Some(place) = self.places.get_mut(to) else { return };
        if place.paused {
            // A socket's buffer is not endless.
            if place.waiting.len() < 100 {
                place.waiting.push(delivery);
            }
            return;
        }
        self.trace = self.trace.wrapping_mul(31) ^ self.now.as_millis() ^ to as u64;
        if place.node.is_none() {
            if let Delivery::Request { from, life, token, .. } = delivery {
                self.at(1, Delivery::Reply { to: from, life, token, bytes: None });
            }
            return;
        }
        let same = |life: u64| place.life == life;
        match delivery {
            Delivery::Packet { from, bytes, .. } => self.command(to, |node, now| {
                node.handle_packet(Self::address(from), &bytes, now);
            }),
            Delivery::Request { from, life, token, bytes, reply, .. } => {
                let answer = self.command(to, |node, now| {
                    node.handle_stream_request(Self::address(from), &bytes, now)
                });
                let delay = self.rng.random_range(0..=self.delay);
                let outcome = if reply {
                    Delivery::Reply { to: from, life, token, bytes: answer }
                } else {
                    Delivery::Sent { to: from, life, token }
                };
                self.at(delay, outcome);
            }
            Delivery::Reply { life, token, bytes, .. } if same(life) => {
                self.command(to, |node, now| match bytes {
                    Some(bytes) => node.handle_stream_reply(token, &bytes, now),
                    None => node.handle_stream_failed(token, now),
                });
            }
            Delivery::Sent { life, token, .. } if same(life) => {
                self.command(to, |node, now| node.handle_stream_sent(token, now));
            }
            Delivery::Reply { .. } | Delivery::Sent { .. } => {}
        }
    }

    /// Lets a stopped node go on.
    pub fn resume(&mut self, host: Host) {
        self.places[host].paused = false;
        for delivery in std::mem::take(&mut self.places[host].waiting) {
            self.deliver(delivery);
        }
    }

    /// Everything works again from now on.
    pub fn heal(&mut self) {
        (self.loss, self.doubled, self.delay) = (0.0, 0.0, 3);
        self.cut.clear();
        for host in 0..self.places.len() {
            self.resume(host);
        }
        // Nodes that never met find each other through a bootstrap peer, or not at all.
        if !self.running().iter().any(|host| *host < 2) {
            self.start(0);
        }
    }

    /// What a node on `host` ought to see: all entries of running nodes in its networks, without
    /// its own.
    pub fn expected(&self, host: Host) -> View {
        let node = self.node(host);
        let networks: BTreeSet<_> = node.networks().cloned().collect();
        let mut view = View::new();
        for (owner, entries) in self.truth.iter().filter(|(owner, _)| *owner != node.name()) {
            for (id, value) in entries.iter().filter(|(id, _)| networks.contains(&id.network)) {
                view.insert(id.clone(), (value.clone(), owner.clone()));
            }
        }
        view
    }

    /// What a node believes of the others, in short.
    fn beliefs(&self, host: Host) -> Vec<String> {
        let host_of = |address| Self::host(address).unwrap_or_default();
        let members = self.node(host).members();
        members.map(|m| format!("{} {:?} on {}", m.name, m.state, host_of(m.address))).collect()
    }

    /// What differs from what ought to be, for the failure's message.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for host in self.running() {
            let (node, place) = (self.node(host), &self.places[host]);
            let others = node.entries().filter(|entry| entry.owner != node.name());
            let seen: View = others
                .map(|entry| (entry.id.clone(), (entry.value.to_vec(), entry.owner.clone())))
                .collect();
            if seen != place.view {
                faults.push(format!("host {host}: events say {:?}, tables {seen:?}", place.view));
            }
            let before = faults.len();
            let expected = self.expected(host);
            for (id, entry) in &expected {
                if seen.get(id) != Some(entry) {
                    faults.push(format!("host {host} lacks {id:?} {entry:?}: {:?}", seen.get(id)));
                }
            }
            for (id, entry) in seen.iter().filter(|(id, _)| !expected.contains_key(*id)) {
                faults.push(format!("host {host} still has {id:?} {entry:?}"));
            }
            if faults.len() > before {
                faults.push(format!(
                    "host {host} is {:?}, knows {:?}",
                    node.name(),
                    self.beliefs(host)
                ));
            }
        }
        faults
    }
}

fn apply(view: &mut View, event: Event) {
    match event {
        Event::EntryCreated { id, value, owner } => {
            let old = view.insert(id.clone(), (value, owner));
            assert!(old.is_none(), "created twice: {id:?}");
        }
        Event::EntryUpdated { id, value, owner } => {
            let old = view.insert(id.clone(), (value, owner));
            assert!(old.is_some(), "updated before it was created: {id:?}");
        }
        Event::EntryDeleted { id, .. } => {
            assert!(view.remove(&id).is_some(), "deleted before it was created: {id:?}");
        }
        Event::NodeUp { .. }
        | Event::NodeDown { .. }
        | Event::NodeLeft { .. }
        | Event::NodeUnreachable { .. }
        | Event::NodeReachable { .. }
        | Event::Asked { .. }
        | Event::Answered { .. }
        | Event::LeaveDone => {}
    }
}
