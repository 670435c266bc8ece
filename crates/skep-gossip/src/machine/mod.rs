//! The machine: one struct, its parts by what they answer to.
//!
//! `packets` and `streams` read what comes in, `members` and `probe` are SWIM, `events` and `sync`
//! NetworkDB, `questions` what nodes ask each other, `spread` sends rounds of gossip, `commands` is this node's own
//! will, `timers` time.

mod commands;
mod entries;
mod events;
mod members;
mod output;
mod packets;
mod probe;
mod questions;
mod spread;
mod streams;
mod sync;
mod timers;

pub use output::{CommandError, EntryView, Event, Output, Put, Token};

use crate::codec::Keyring;
use crate::config::Config;
use crate::counters::Counters;
use crate::membership::Awareness;
use crate::membership::member::{Member, MemberView};
use crate::membership::queue::Queue;
use crate::names::{EntryId, NetworkId, NodeName, Table};
use crate::tables::Clock;
use crate::tables::entry::Entry;
use crate::tables::network::{Attachments, DueSync, OwnNetwork, PendingSync};
use crate::time::Moment;
use probe::{Candidate, Pending, Probe};
use questions::Question;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use streams::OpenStream;

/// Versions this node speaks: memberlist 1 to 5, currently 2; nothing above it.
const VERSIONS: [u8; 6] = [1, 5, 2, 0, 0, 0];

/// What news are about: newer ones about the same replace older ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    Member(NodeName),
    Node(NodeName),
    Network(NodeName, NetworkId),
}

/// One node of the gossip. See the crate's documentation.
#[derive(Debug)]
pub struct Gossip {
    config: Config,
    keyring: Option<Keyring>,
    rng: StdRng,
    now: Moment,
    outputs: Vec<Output>,
    counters: Counters,

    // Membership.
    incarnation: u32,
    members: BTreeMap<NodeName, Member>,
    /// Their names by address; several where one followed another.
    addresses: BTreeMap<SocketAddr, BTreeSet<NodeName>>,
    awareness: Awareness,
    news: Queue<News>,
    news_due: Option<Moment>,
    probe: Option<Probe>,
    probe_ring: Vec<NodeName>,
    pending: BTreeMap<u32, Pending>,
    next_seq: u32,
    candidates: BTreeMap<NodeName, Candidate>,
    streams: BTreeMap<Token, OpenStream>,
    next_token: u64,
    questions: BTreeMap<(u64, NodeName), Question>,
    bootstrap: Vec<SocketAddr>,
    introduce_at: Option<Moment>,
    leave_until: Option<Moment>,
    left: bool,

    // Tables.
    network_clock: Clock,
    table_clock: Clock,
    networks: BTreeMap<NetworkId, OwnNetwork>,
    attachments: Attachments,
    entries: BTreeMap<EntryId, Entry>,
    due_syncs: BTreeMap<NodeName, DueSync>,
    pending_syncs: BTreeMap<NodeName, PendingSync>,
    /// Owners whose events came before their attachment.
    missed: BTreeSet<(NodeName, NetworkId)>,

    timers: timers::Timers,
}

impl Gossip {
    /// A node on its own. `seed` must be from true chance: it makes the encryption's nonces, too.
    pub fn new(config: Config, now: Moment, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let timers = timers::Timers::new(&config.timing, now, &mut rng);
        Self {
            keyring: config.keyring.clone(),
            config,
            rng,
            now,
            outputs: Vec::new(),
            counters: Counters::default(),
            incarnation: 1,
            members: BTreeMap::new(),
            addresses: BTreeMap::new(),
            awareness: Awareness::default(),
            news: Queue::default(),
            news_due: None,
            probe: None,
            probe_ring: Vec::new(),
            pending: BTreeMap::new(),
            next_seq: 0,
            candidates: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_token: 0,
            questions: BTreeMap::new(),
            bootstrap: Vec::new(),
            introduce_at: None,
            leave_until: None,
            left: false,
            network_clock: Clock::default(),
            table_clock: Clock::default(),
            networks: BTreeMap::new(),
            attachments: BTreeMap::new(),
            entries: BTreeMap::new(),
            due_syncs: BTreeMap::new(),
            pending_syncs: BTreeMap::new(),
            missed: BTreeSet::new(),
            timers,
        }
    }

    /// What is to be done now, in order; each is given out once.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// This node's name.
    pub fn name(&self) -> &NodeName {
        &self.config.name
    }

    /// The address others are told.
    pub fn advertise(&self) -> SocketAddr {
        self.config.advertise
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// This node's own health: 0 is best; the worse, the slower it accuses others.
    pub fn health(&self) -> u32 {
        self.awareness.score()
    }

    /// Every other node, remembered dead ones too, by name.
    pub fn members(&self) -> impl Iterator<Item = MemberView> {
        self.members.iter().map(|(name, member)| MemberView {
            name: name.clone(),
            address: member.address,
            state: member.state,
            since: member.since,
        })
    }

    /// The networks this node is in.
    pub fn networks(&self) -> impl Iterator<Item = &NetworkId> {
        self.networks.iter().filter(|(_, own)| own.is_joined()).map(|(id, _)| id)
    }

    /// Every visible entry, own ones too, by network, table and key.
    pub fn entries(&self) -> impl Iterator<Item = EntryView<'_>> {
        let seen = self.entries.iter().filter(|(_, entry)| self.is_seen(entry));
        seen.map(|(id, entry)| EntryView { id, value: &entry.value, owner: &entry.owner })
    }

    /// [`Timing::death_bound`](crate::Timing::death_bound) of the cluster as it is now.
    pub fn death_bound(&self) -> std::time::Duration {
        self.config.timing.death_bound(self.cluster_size())
    }

    /// How many members live, this node included.
    fn cluster_size(&self) -> usize {
        1 + self.members.values().filter(|member| member.is_present()).count()
    }

    fn is_seen(&self, entry: &Entry) -> bool {
        !entry.deleted && self.is_owner_seen(&entry.owner)
    }

    fn is_owner_seen(&self, owner: &NodeName) -> bool {
        *owner == self.config.name
            || self.members.get(owner).is_some_and(|m| m.is_seen() && m.is_reachable())
    }

    /// Whether what it owns is passed on: others may reach it.
    fn is_owner_told(&self, owner: &NodeName) -> bool {
        *owner == self.config.name || self.members.get(owner).is_some_and(Member::is_seen)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }
}

/// First possible id of a network: ranges over all of one network's entries begin with it.
fn first_of(network: &NetworkId) -> EntryId {
    EntryId { network: network.clone(), table: Table::from(""), key: "".into() }
}
