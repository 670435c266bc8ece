//! The conversation with the other nodes: keeps the network room and gossip's tables the same.

use super::{Net, WeakNet};
use crate::error::{NetError, Result};
use crate::gossip::runner::{Runner, Wish};
use crate::gossip::said::Said;
use crate::gossip::turns::Turns;
use crate::gossip::{GossipSettings, Others, PORT, applied, metrics, tables};
use crate::ids::{EndpointId, NetworkId};
use crate::model::RemoteChange;
use crate::plan::NsName;
use crate::world::World;
use skep_gossip::records::{ENDPOINT_TABLE, PEER_TABLE};
use skep_gossip::{EntryId, Event, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How long a good-bye may take.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// From the first contact after a start until what only an earlier daemon had heard is given up:
/// time for the exchange of whole tables.
const GRACE: Duration = Duration::from_secs(10);
/// How long the entries of a daemon that was started again stay in force: time for the new one to
/// say the same. A host that is dead is another matter, and out at once.
const RETURN: Duration = Duration::from_secs(2);
/// How long the way to what a silent node has stays: its host may be alive and only its daemon gone, and then
/// its containers and its part of the mesh go on. Nothing new leads there meanwhile.
const SILENCE: Duration = Duration::from_secs(3600);
/// How long it may be served by somebody who fell silent, if by nobody else: longer than a daemon takes to come back, and
/// than the tasks of a dead host take to be started elsewhere.
const LAST_HEARD: Duration = Duration::from_secs(60);
/// Changes that are on their way into the kernel at the same time, before more news are taken over.
const AT_WORK: usize = 64;
/// How soon what did not get into the kernel is looked at again; the loop tries it by itself.
const AGAIN: Duration = Duration::from_secs(2);
/// Bundles of events taken over at once.
const BATCH: usize = 1024;

/// Gossip at work.
pub struct Talk {
    settings: GossipSettings,
    runner: Arc<Runner>,
    turns: watch::Sender<Turns>,
    /// What the other nodes say they have done. It belongs to this life of the conversation.
    others: Arc<watch::Sender<Others>>,
    task: JoinHandle<()>,
}

impl Talk {
    /// Starts to listen and to speak.
    pub async fn start(net: &Net, settings: GossipSettings) -> Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let identity = settings.identity();
        let runner = Runner::start(&identity, Some(settings.keyring()?), sender).await.map_err(
            |source| NetError::Gossip { address: SocketAddr::new(settings.listen, PORT), source },
        )?;
        let runner = Arc::new(runner);
        runner.wish(Wish::Bootstrap(settings.bootstrap()));
        let turns = watch::Sender::new(Turns::new(&settings.keys, Instant::now()));
        let others = Arc::new(watch::Sender::new(Others::new(rand::random())));
        let alone = settings.peers.iter().all(|peer| *peer == settings.advertise);
        let host = Host {
            net: net.downgrade(),
            name: identity.name,
            runner: Arc::clone(&runner),
            networks: BTreeSet::new(),
            said: Said::default(),
            own: applied::Own::default(),
            others: Arc::clone(&others),
            work: JoinSet::new(),
            stuck: Vec::new(),
            retry_at: None,
            stale: net.read_world(remembered),
            give_up_at: alone.then(|| Instant::now() + GRACE),
            parting: BTreeMap::new(),
            turns: turns.subscribe(),
        };
        let task = tokio::spawn(host.run(events, net.records_changed()));
        Ok(Self { settings, runner, turns, others, task })
    }

    /// Whether nothing but keys and peers differs, which can change while it runs.
    pub fn takes(&self, settings: &GossipSettings) -> bool {
        self.settings.identity() == settings.identity()
    }

    /// Uses other keys and peers.
    pub fn update(&mut self, settings: GossipSettings) -> Result<()> {
        if settings.keys != self.settings.keys {
            self.runner.wish(Wish::Keys(settings.keyring()?));
            let (old, new) = (&self.settings.keys, &settings.keys);
            self.turns.send_if_modified(|turns| turns.turn(old, new, Instant::now()));
        }
        self.runner.wish(Wish::Bootstrap(settings.bootstrap()));
        self.settings = settings;
        Ok(())
    }

    /// Says good-bye and ends.
    pub async fn leave(self) {
        self.runner.leave(GOOD_BYE).await;
    }

    /// Counters as Prometheus text.
    pub fn metrics(&self) -> String {
        metrics::render(&self.runner.counters(), self.runner.waiting())
    }

    /// Asks everybody who takes part in a network, for `time` at most.
    pub fn ask(&self, network: &NetworkId, question: &[u8], time: Duration) -> Asked {
        let mut begun = (0, BTreeSet::new());
        self.others.send_modify(|others| begun = others.begin(network));
        let (number, nodes) = begun;
        for node in nodes {
            self.runner.wish(Wish::Ask(node, number, question.to_vec(), time));
        }
        Asked { others: Arc::downgrade(&self.others), number }
    }

    /// Takes over something that another node said.
    #[cfg(test)]
    pub fn hear_of(&self, what: impl FnOnce(&mut Others) -> bool) {
        self.others.send_modify(|others| assert!(what(others)));
    }

    /// What the other nodes have said. Ends with the conversation.
    pub fn others(&self) -> watch::Receiver<Others> {
        self.others.subscribe()
    }
}

/// A question whose answers are waited for; not any more when this is dropped.
pub struct Asked {
    others: Weak<watch::Sender<Others>>,
    number: u64,
}

impl Asked {
    /// Nodes that have yet to answer.
    pub fn missing<'a>(&self, others: &'a Others) -> impl Iterator<Item = &'a NodeName> + use<'a> {
        others.missing(self.number)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(others) = self.others.upgrade() {
            others.send_modify(|others| others.end(self.number));
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Places of everything that other nodes said.
fn remembered(world: &World) -> BTreeSet<(NetworkId, EndpointId)> {
    let running = &world.running;
    running.remote_endpoints.keys().chain(running.remote_peers.keys()).cloned().collect()
}

/// A change of what other nodes have.
struct Change {
    /// Namespaces that have still to take it.
    names: BTreeSet<NsName>,
    /// Endpoints that it is about.
    places: BTreeSet<(NetworkId, EndpointId)>,
}

/// This host's side of the conversation.
struct Host {
    net: WeakNet,
    name: NodeName,
    runner: Arc<Runner>,
    /// Networks this node takes part in.
    networks: BTreeSet<NetworkId>,
    /// What was said last.
    said: Said,
    own: applied::Own,
    others: Arc<watch::Sender<Others>>,
    /// Changes on their way into the kernel.
    work: JoinSet<Vec<Change>>,
    /// Those that some namespace did not take, and when they are tried again.
    stuck: Vec<Change>,
    retry_at: Option<Instant>,
    /// What an earlier daemon heard and this one has not heard yet.
    stale: BTreeSet<(NetworkId, EndpointId)>,
    give_up_at: Option<Instant>,
    /// Entries whose owner's life ended and that the next one may have again, and until when that
    /// is waited for.
    parting: BTreeMap<EntryId, Instant>,
    /// Touched when somebody was removed.
    turns: watch::Receiver<Turns>,
}

impl Host {
    async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Vec<Event>>,
        mut changed: watch::Receiver<u64>,
    ) {
        let mut batch = Vec::new();
        loop {
            let Some(net) = self.net.upgrade() else { return };
            self.say(&net);
            drop(net);
            let due = self.parting.values().chain(&self.give_up_at).chain(&self.retry_at).min();
            let wait = due.map(|at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH), if self.work.len() < AT_WORK => {
                    if count == 0 {
                        return;
                    }
                    self.runner.waiting().events.fetch_sub(count, Ordering::Relaxed);
                    let Some(net) = self.net.upgrade() else { return };
                    self.hear(&net, std::mem::take(&mut batch).into_iter().flatten().collect());
                }
                Some(done) = self.work.join_next() => {
                    let Some(net) = self.net.upgrade() else { return };
                    match done {
                        Ok(changes) => self.tried(&net, changes),
                        Err(error) => tracing::error!(%error, "gossip: a change was not carried through"),
                    }
                }
                result = changed.changed() => {
                    if result.is_err() {
                        return;
                    }
                }
                result = self.turns.changed() => {
                    if result.is_err() {
                        return;
                    }
                    let Some(net) = self.net.upgrade() else { return };
                    self.let_go(&net);
                }
                () = sleep(wait) => {
                    let Some(net) = self.net.upgrade() else { return };
                    let now = Instant::now();
                    if self.give_up_at.is_some_and(|at| at <= now) {
                        self.give_up(&net);
                    }
                    if self.retry_at.is_some_and(|at| at <= now) {
                        self.retry_at = None;
                        let stuck = std::mem::take(&mut self.stuck);
                        self.bring(stuck);
                    }
                    self.part(&net, now);
                }
            }
        }
    }

    /// Brings the tables to what this host has.
    fn say(&mut self, net: &Net) {
        let news = net.read_world(|world| self.said.news(world));
        let networks = news.around.networks.clone();
        for network in networks.difference(&self.networks) {
            self.runner.wish(Wish::Join(network.as_str().into()));
        }
        for (id, value) in self.said.say(&self.name, news) {
            self.runner.wish(match value {
                Some(value) => Wish::Put(id, value),
                None => Wish::Delete(id),
            });
        }
        let parted: Vec<NetworkId> = self.networks.difference(&networks).cloned().collect();
        self.networks = networks;
        if parted.is_empty() {
            return;
        }
        for network in &parted {
            self.runner.wish(Wish::Part(network.as_str().into()));
            self.others.send_modify(|others| others.forget(network));
        }
        let changes = parted.into_iter().map(RemoteChange::ForgetNetwork).collect();
        self.apply(net, changes);
    }

    /// Takes over what others said.
    fn hear(&mut self, net: &Net, events: Vec<Event>) {
        // The machine takes a node's entries away and then says that it left, or fell silent.
        let named = |which: fn(&Event) -> Option<&NodeName>| -> BTreeSet<NodeName> {
            events.iter().filter_map(which).cloned().collect()
        };
        let ended = named(|event| match event {
            Event::NodeLeft { name, .. } => Some(name),
            _ => None,
        });
        let silent = named(|event| match event {
            Event::NodeDown { name, .. } | Event::NodeUnreachable { name, .. } => Some(name),
            _ => None,
        });
        let unreachable = named(|event| match event {
            Event::NodeUnreachable { name, .. } => Some(name),
            _ => None,
        });
        let mut changes = Vec::new();
        for event in events {
            let (id, value, owner) = match event {
                Event::EntryCreated { id, value, owner }
                | Event::EntryUpdated { id, value, owner } => (id, Some(value), owner),
                Event::EntryDeleted { id, owner, .. } => (id, None, owner),
                Event::NodeUp { name, address, .. } => {
                    tracing::info!(node = %name, %address, "gossip: a node is there");
                    net.node_up(address.ip(), name.as_str());
                    self.answers(net, address.ip());
                    if !self.stale.is_empty() && self.give_up_at.is_none() {
                        self.give_up_at = Some(Instant::now() + GRACE);
                    }
                    continue;
                }
                Event::NodeDown { name, address, .. } => {
                    tracing::warn!(node = %name, %address, "gossip: a node does not answer");
                    net.node_gone(address.ip(), name.as_str());
                    continue;
                }
                Event::NodeLeft { name, address, .. } => {
                    tracing::info!(node = %name, %address, "gossip: a node left");
                    net.node_gone(address.ip(), name.as_str());
                    continue;
                }
                Event::NodeUnreachable { name, address, .. } => {
                    tracing::warn!(node = %name, %address, "gossip: a node answers others and not this host; nothing new is sent there");
                    continue;
                }
                Event::NodeReachable { name, address, .. } => {
                    tracing::info!(node = %name, %address, "gossip: a node answers this host again");
                    self.answers(net, address.ip());
                    continue;
                }
                Event::Asked { from, number, question } => {
                    if !self.own.ask(from.clone(), number, &question, Instant::now()) {
                        tracing::warn!(node = %from, "gossip: an unreadable question");
                    }
                    continue;
                }
                Event::Answered { from, number } => {
                    self.others.send_modify(|others| others.answered(&from, number));
                    continue;
                }
                Event::LeaveDone => continue,
            };
            let network = id.network.clone();
            if id.table.as_str() == applied::TABLE {
                self.others.send_modify(|others| {
                    if !others.take(&network, &owner, value.as_deref()) {
                        tracing::debug!(node = %owner, "gossip: a node answers other questions than ours");
                    }
                });
                continue;
            }
            if value.is_none() && ended.contains(&owner) {
                self.parting.insert(id, Instant::now() + RETURN);
                continue;
            }
            if value.is_none() && silent.contains(&owner) {
                let endpoint = EndpointId::new(id.key.as_str());
                let serves = id.table.as_str() == ENDPOINT_TABLE;
                match id.table.as_str() {
                    ENDPOINT_TABLE => drop(self.parting.insert(id, Instant::now() + LAST_HEARD)),
                    PEER_TABLE => {
                        let now = Instant::now();
                        let out = self.turns.borrow().silence_is_removal(now);
                        self.parting.insert(id, if out { now } else { now + SILENCE });
                    }
                    _ => continue,
                }
                self.stale.remove(&(network.clone(), endpoint.clone()));
                changes.push(RemoteChange::Silent(network.clone(), endpoint.clone()));
                // Who answers others has a daemon that runs: it is the way to its host that is lost.
                if serves && unreachable.contains(&owner) {
                    changes.push(RemoteChange::Endpoint(network, endpoint, None));
                }
                continue;
            }
            self.parting.remove(&id);
            match tables::change(&id, value.as_deref()) {
                Some(Ok(change)) => {
                    let endpoint = EndpointId::new(id.key.as_str());
                    self.stale.remove(&(network, endpoint));
                    changes.push(change);
                }
                Some(Err(why)) => {
                    tracing::warn!(node = %owner, ?id, why, "gossip: an unreadable record");
                }
                None => {}
            }
        }
        self.apply(net, changes);
        self.answer(net);
    }

    /// Answers the questions of others that can be.
    fn answer(&mut self, net: &Net) {
        let answers = net.read_world(|world| {
            self.own.answers(|place, serves| applied::is_wanted(world, place, serves))
        });
        for (node, number) in answers {
            self.runner.wish(Wish::Answer(node, number));
        }
    }

    /// A node is there again: what its earlier life had and it does not say anew is given up soon.
    fn answers(&mut self, net: &Net, address: IpAddr) {
        let back: BTreeSet<(NetworkId, EndpointId)> = net.read_world(|world| {
            let at = |key| world.running.remote_peers.get(key).map(|peer| peer.tunnel_endpoint_ip);
            let silent = world.running.silent.keys();
            silent.filter(|key| at(key) == Some(address)).cloned().collect()
        });
        let soon = Instant::now() + GRACE;
        for (id, at) in &mut self.parting {
            let key = (id.network.clone(), EndpointId::new(id.key.as_str()));
            if back.contains(&key) {
                *at = soon.min(*at);
            }
        }
    }

    /// Takes changes over. They are in force once the kernel has them, wherever this host sends from for others. A
    /// container's own namespace that cannot be changed is that container's trouble and holds up nobody: it is tried again
    /// by itself.
    fn apply(&mut self, net: &Net, changes: Vec<RemoteChange>) {
        if changes.is_empty() {
            return;
        }
        let places = net.read_world(|world| applied::places(&changes, world));
        self.own.begin(&places);
        let names = net.take_over(changes);
        self.bring(vec![Change { names, places }]);
    }

    /// Has changes brought into the kernel. Each comes back with the names that did not take it.
    fn bring(&mut self, mut changes: Vec<Change>) {
        let weak = self.net.clone();
        self.work.spawn(async move {
            let Some(net) = weak.upgrade() else { return Vec::new() };
            let all = changes.iter().flat_map(|change| change.names.iter().cloned()).collect();
            // It fails only at the end.
            let Ok(results) = net.bring(all).await else { return Vec::new() };
            for change in &mut changes {
                change
                    .names
                    .retain(|name| !name.is_sandbox() && matches!(results.get(name), Some(Err(_))));
            }
            changes
        });
    }

    /// What the kernel took is in force; the rest is tried again together, and keeps nobody from listening.
    fn tried(&mut self, net: &Net, changes: Vec<Change>) {
        let (stuck, done): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| !change.names.is_empty());
        for change in done {
            self.own.end(&change.places);
        }
        if !stuck.is_empty() {
            self.stuck.extend(stuck);
            self.retry_at.get_or_insert_with(|| Instant::now() + AGAIN);
        }
        self.answer(net);
    }

    /// Lets go of what no new life of its owner came back for.
    fn part(&mut self, net: &Net, now: Instant) {
        let due: Vec<EntryId> =
            self.parting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        self.parting.retain(|_, at| *at > now);
        // Without a value there is nothing that could be unreadable.
        let changes = due.iter().filter_map(|id| tables::change(id, None)?.ok()).collect();
        self.apply(net, changes);
    }

    /// Somebody was removed: what is kept for silent nodes goes now.
    fn let_go(&mut self, net: &Net) {
        let now = Instant::now();
        self.parting.values_mut().for_each(|at| *at = now);
        self.part(net, now);
    }

    /// Forgets what nobody says any more.
    fn give_up(&mut self, net: &Net) {
        self.give_up_at = None;
        let stale = std::mem::take(&mut self.stale);
        if stale.is_empty() {
            return;
        }
        tracing::info!(
            records = stale.len(),
            "gossip: forgetting what only an earlier daemon had heard"
        );
        let changes = stale.into_iter().flat_map(|(network, endpoint)| {
            [
                RemoteChange::Endpoint(network.clone(), endpoint.clone(), None),
                RemoteChange::Peer(network, endpoint, None),
            ]
        });
        self.apply(net, changes.collect());
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
