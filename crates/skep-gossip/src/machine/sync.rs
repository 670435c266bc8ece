use super::Gossip;
use super::events::decode;
use super::streams::Purpose;
use crate::codec::StreamMessage;
use crate::counters::DropCause;
use crate::names::{NetworkId, NodeName};
use crate::tables::Clock;
use crate::tables::network::{DueSync, PendingSync};
use crate::tables::wire::{
    BulkSyncMessage, CompoundMessage, GossipMessage, MessageType, TableEvent, TableEventType,
};
use crate::time::Moment;
use rand::seq::SliceRandom as _;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// An answer later than this is none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A peer that could not be reached is tried this often, then left to the regular turns.
const ATTEMPTS: u8 = 4;
const RETRY: Duration = Duration::from_millis(500);
/// Least time between two pushes of a network's whole tables because of an entry that fits into no packet.
const PUSH_INTERVAL: Duration = Duration::from_secs(2);
/// Above this, each network gets a message of its own; bytes.
const SPLIT_AT: usize = 4 << 20;

impl Gossip {
    /// Peers with whom this node shares `network`, reachable as far as is known.
    pub(super) fn neighbours(&self, network: &NetworkId) -> Vec<NodeName> {
        let peers = self
            .members
            .iter()
            .filter(|(name, member)| member.is_seen() && self.is_attached(name, network));
        peers.map(|(name, _)| name.clone()).collect()
    }

    /// The networks that this node shares with `peer`.
    fn common_networks(&self, peer: &NodeName) -> Vec<NetworkId> {
        self.networks().filter(|network| self.is_attached(peer, network)).cloned().collect()
    }

    /// Asks `peer` for a bulk sync after `delay`, unless one happens before.
    pub(super) fn sync_later(&mut self, peer: &NodeName, delay: Duration) {
        let at = self.now + delay;
        let due = self.due_syncs.entry(peer.clone()).or_insert(DueSync { at, attempts: 0 });
        due.at = due.at.min(at);
    }

    /// A node came (back): what it said meanwhile, and what it missed, must be exchanged.
    /// `known`: it was here before, so it will not introduce itself again.
    pub(super) fn catch_up_with(&mut self, peer: &NodeName, known: bool) {
        if known && let Some(address) = self.members.get(peer).map(|member| member.address) {
            self.push_pull_with(address, false);
        }
        self.sync_later(peer, self.config.timing.gossip_interval);
    }

    pub(super) fn run_due_syncs(&mut self) {
        let due = self.due_syncs.iter().filter(|(_, due)| due.at <= self.now);
        let due: Vec<_> = due.map(|(peer, due)| (peer.clone(), due.attempts)).collect();
        for (peer, attempts) in due {
            self.due_syncs.remove(&peer);
            self.ask_for_sync(&peer, attempts);
        }
    }

    pub(super) fn next_sync(&self) -> Option<Moment> {
        let due = self.due_syncs.values().map(|due| due.at);
        let answers = self.pending_syncs.values().map(|pending| pending.deadline);
        due.chain(answers).min()
    }

    /// Exchanges all common networks with `peer`; which they are.
    pub(super) fn ask_for_sync(&mut self, peer: &NodeName, attempts: u8) -> Vec<NetworkId> {
        let networks = self.common_networks(peer);
        let Some(address) = self.members.get(peer).filter(|m| m.is_seen()).map(|m| m.address)
        else {
            return Vec::new();
        };
        if networks.is_empty() {
            return networks;
        }
        let purpose = Purpose::Sync { peer: peer.clone(), attempts };
        let l_time = self.send_sync(address, &networks, true, purpose);
        let deadline = self.now + ANSWER_TIMEOUT;
        self.pending_syncs.insert(peer.clone(), PendingSync { l_time, deadline });
        networks
    }

    /// Sends all entries of `networks`; the clock of the (first) message.
    fn send_sync(
        &mut self,
        to: SocketAddr,
        networks: &[NetworkId],
        unsolicited: bool,
        purpose: Purpose,
    ) -> u64 {
        let mut first = None;
        let mut batch: Vec<NetworkId> = Vec::new();
        let (mut events, mut size) = (Vec::new(), 0);
        for network in networks {
            let more = self.network_events(network);
            let len: usize = more.iter().map(Vec::len).sum();
            if size > 0 && size + len > SPLIT_AT {
                let (batch, events) = (std::mem::take(&mut batch), std::mem::take(&mut events));
                let clock = self.send_batch(to, &batch, events, unsolicited, purpose.clone());
                first.get_or_insert(clock);
                size = 0;
            }
            batch.push(network.clone());
            events.extend(more);
            size += len;
        }
        let last = self.send_batch(to, &batch, events, unsolicited, purpose);
        first.unwrap_or(last)
    }

    fn send_batch(
        &mut self,
        to: SocketAddr,
        networks: &[NetworkId],
        events: Vec<Vec<u8>>,
        unsolicited: bool,
        purpose: Purpose,
    ) -> u64 {
        let l_time = self.table_clock.next();
        let message = BulkSyncMessage {
            l_time,
            unsolicited,
            node_name: self.config.name.to_string(),
            networks: networks.iter().map(NetworkId::to_string).collect(),
            payload: GossipMessage::compound(events),
        };
        let payload = GossipMessage::wrap(MessageType::BulkSync, &message);
        self.open(to, &StreamMessage::User(payload), purpose);
        l_time
    }

    /// All entries of a network as events; not those of failed owners, who will tell themselves
    /// when they are back.
    fn network_events(&self, network: &NetworkId) -> Vec<Vec<u8>> {
        let told = self
            .of_network(network)
            .filter(|(_, entry)| entry.deleted || self.is_owner_told(&entry.owner));
        told.map(|(id, entry)| entry.event(id, TableEventType::Create, self.now)).collect()
    }

    /// Whole networks of a peer arrive.
    pub(super) fn bulk_sync(&mut self, message: BulkSyncMessage) -> Result<(), DropCause> {
        if message.l_time >= Clock::ABSURD {
            return Err(DropCause::AbsurdClock);
        }
        self.table_clock.witness(message.l_time);
        let peer = NodeName::from(message.node_name.as_str());
        self.table_message(&message.payload, true)?;
        let networks: Vec<NetworkId> =
            message.networks.iter().map(|network| network.as_str().into()).collect();
        self.sweep(&peer, &networks, &message)?;
        if self.pending_syncs.get(&peer).is_some_and(|p| p.l_time < message.l_time) {
            self.sync_is_over(&peer);
        }
        self.due_syncs.remove(&peer);
        let address = self.members.get(&peer).ok_or(DropCause::UnknownNode)?.address;
        if message.unsolicited {
            let ours: Vec<_> = networks
                .into_iter()
                .filter(|network| self.networks.get(network).is_some_and(|own| own.is_joined()))
                .collect();
            self.send_sync(address, &ours, false, Purpose::SyncAnswer);
        }
        Ok(())
    }

    /// What a node sends of its own is all it has: older entries in its name that are not among
    /// them are gone, though nobody told us. (Its newer ones carry later clocks.)
    fn sweep(
        &mut self,
        peer: &NodeName,
        networks: &[NetworkId],
        message: &BulkSyncMessage,
    ) -> Result<(), DropCause> {
        let held = |network: &NetworkId| self.of_network(network).any(|(_, e)| e.owner == *peer);
        if !networks.iter().any(held) {
            return Ok(());
        }
        let compound: GossipMessage = decode(&message.payload)?;
        if compound.r#type() != MessageType::Compound {
            return Err(DropCause::Malformed);
        }
        let mut sent = BTreeSet::new();
        for part in decode::<CompoundMessage>(&compound.data)?.messages {
            let event: GossipMessage = decode(&part.payload)?;
            if event.r#type() == MessageType::TableEvent {
                let event: TableEvent = decode(&event.data)?;
                sent.insert((event.network_id, event.table_name, event.key));
            }
        }
        let before = self.entries.len();
        for network in networks {
            self.remove_entries(None, Some(network), |id, entry| {
                let key = (id.network.to_string(), id.table.to_string(), id.key.to_string());
                entry.owner == *peer && entry.l_time < message.l_time && !sent.contains(&key)
            });
        }
        self.counters.entries_swept += (before - self.entries.len()) as u64;
        Ok(())
    }

    /// No answer of `peer` is waited for any more.
    pub(super) fn sync_is_over(&mut self, peer: &NodeName) {
        self.pending_syncs.remove(peer);
        for own in self.networks.values_mut() {
            own.first_sync.remove(peer);
        }
    }

    pub(super) fn sync_failed(&mut self, peer: &NodeName, attempts: u8) {
        self.sync_is_over(peer);
        if attempts < ATTEMPTS && self.members.get(peer).is_some_and(|m| m.is_seen()) {
            let attempts = attempts + 1;
            let at = self.now + RETRY * u32::from(attempts);
            self.due_syncs.entry(peer.clone()).or_insert(DueSync { at, attempts });
        }
    }

    pub(super) fn end_pending_syncs(&mut self) {
        let late = self.pending_syncs.iter().filter(|(_, p)| p.deadline <= self.now);
        let late: Vec<_> = late.map(|(peer, _)| peer.clone()).collect();
        for peer in late {
            self.sync_is_over(&peer);
        }
    }

    /// The regular exchange: one peer of each network, each peer once per turn.
    pub(super) fn regular_syncs(&mut self) {
        let mut todo: BTreeSet<NetworkId> = self.networks().cloned().collect();
        while let Some(network) = todo.pop_first() {
            let Some(peer) = self.next_in_ring(&network) else { continue };
            for covered in self.ask_for_sync(&peer, 0) {
                todo.remove(&covered);
            }
        }
    }

    fn next_in_ring(&mut self, network: &NetworkId) -> Option<NodeName> {
        let neighbours = self.neighbours(network);
        let own = self.networks.get_mut(network)?;
        while let Some(peer) = own.ring.pop() {
            if neighbours.contains(&peer) {
                return Some(peer);
            }
        }
        own.ring = neighbours;
        own.ring.shuffle(&mut self.rng);
        own.ring.pop()
    }

    /// Entries that no packet can carry go to every neighbour at once, but not again and again: what changes in between
    /// goes with the next time.
    pub(super) fn push_to_neighbours(&mut self, network: &NetworkId) {
        let neighbours = self.neighbours(network);
        let (now, soon) = (self.now, self.now + self.config.timing.gossip_delay);
        let Some(own) = self.networks.get_mut(network) else { return };
        let at = match own.pushed_at {
            // The one that is to come has this with it.
            Some(planned) if planned > now => return,
            Some(last) => soon.max(last + PUSH_INTERVAL),
            None => soon,
        };
        own.pushed_at = Some(at);
        let delay = at.since(now);
        for peer in neighbours {
            self.sync_later(&peer, delay);
        }
    }
}
