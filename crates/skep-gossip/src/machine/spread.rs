use super::Gossip;
use crate::codec::{Keyring, Message, NodeState, compound};
use crate::membership::member::Member;
use crate::membership::queue::Room;
use crate::names::{EntryId, NetworkId};
use crate::tables::wire::GossipMessage;
use crate::time::Moment;
use rand::seq::IndexedRandom as _;
use std::net::SocketAddr;

/// Type, count, and the length of the first part.
const COMPOUND_HEAD: usize = 2;
/// Length of one part.
const PART_HEAD: usize = 2;
/// Heads around a table event in a compound of NetworkDB: two tags with lengths of up to two bytes.
const EVENT_HEAD: usize = 6;
/// Heads around all table events: type byte, and tags and lengths of the outer messages.
const EVENTS_HEAD: usize = 16;

impl Gossip {
    /// Room for messages in one packet.
    pub(super) fn packet_room(&self) -> usize {
        let checksum = 5;
        let seal = if self.keyring.is_some() { Keyring::sealed_len(0) } else { 0 };
        self.config.limits.packet.saturating_sub(checksum + seal)
    }

    /// As many news as fit into a packet beside a first part of the given length; counts them as
    /// sent once.
    pub(super) fn take_news(&mut self, beside: Option<usize>) -> Vec<Vec<u8>> {
        if self.news.is_empty() {
            return Vec::new();
        }
        let mut room = Room::new(self.packet_room() - COMPOUND_HEAD, PART_HEAD);
        if let Some(len) = beside {
            room.put(len);
        }
        let limit = self.config.timing.retransmits(self.cluster_size());
        self.news.take(&mut room, limit)
    }

    /// There are new news: they leave after the short delay.
    pub(super) fn news_soon(&mut self) {
        let soon = self.now + self.config.timing.gossip_delay;
        self.news_due = Some(self.news_due.map_or(soon, |due| due.min(soon)));
    }

    /// There are new table events in `network`.
    pub(super) fn table_news_soon(&mut self, network: &NetworkId) {
        let soon = self.now + self.config.timing.gossip_delay;
        if let Some(own) = self.networks.get_mut(network) {
            own.gossip_due = Some(own.gossip_due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// One round of news about members, nodes and networks.
    pub(super) fn spread_news(&mut self) {
        let fanout = self.config.timing.gossip_fanout;
        let targets = self.some_members(fanout);
        for target in &targets {
            let parts = self.take_news(None);
            if parts.is_empty() {
                break;
            }
            self.send_plain(*target, compound(parts));
        }
        self.news_due = if self.news.is_empty() {
            None
        } else {
            let fresh = self.news.has_fresh() && !targets.is_empty();
            Some(self.next_round(fresh))
        };
    }

    fn next_round(&self, fresh: bool) -> Moment {
        let timing = &self.config.timing;
        self.now + if fresh { timing.gossip_delay } else { timing.gossip_interval }
    }

    /// Random members that get gossip: the living, and the recently dead, who may want to deny it.
    fn some_members(&mut self, count: usize) -> Vec<SocketAddr> {
        let patience = self.config.timing.gossip_to_dead;
        let wanted = |member: &Member| match member.state {
            NodeState::Alive | NodeState::Suspect => true,
            NodeState::Dead => self.now.since(member.since) <= patience,
            NodeState::Left => false,
        };
        let all: Vec<_> =
            self.members.values().filter(|m| wanted(m)).map(|member| member.address).collect();
        all.choose_multiple(&mut self.rng, count).copied().collect()
    }

    /// A round of news to everyone at once, as far as that is reasonable.
    pub(super) fn shout(&mut self, most: usize) {
        let parts = self.take_news(None);
        if parts.is_empty() {
            return;
        }
        let plain = compound(parts);
        for target in self.some_members(most) {
            self.send_plain(target, plain.clone());
        }
    }

    /// One round of table events in `network`.
    pub(super) fn spread_tables(&mut self, network: &NetworkId) {
        let neighbours = self.neighbours(network);
        let room = self.packet_room() - EVENTS_HEAD;
        let timing = self.config.timing;
        let Some(own) = self.networks.get_mut(network) else { return };
        own.gossip_due = None;
        let limit = timing.retransmits(neighbours.len() + 1);
        let mut room = Room::new(room, EVENT_HEAD);
        let mut events = own.events.take(&mut room, limit);
        events.extend(own.relayed.take(&mut room, limit));
        if !own.events.is_empty() || !own.relayed.is_empty() {
            let fresh = own.events.has_fresh() || own.relayed.has_fresh();
            let fresh = fresh && !neighbours.is_empty();
            let delay = if fresh { timing.gossip_delay } else { timing.gossip_interval };
            own.gossip_due = Some(self.now + delay);
        }
        if events.is_empty() {
            return;
        }
        let message = Message::User(GossipMessage::compound(events)).encode();
        let chosen: Vec<_> =
            neighbours.choose_multiple(&mut self.rng, timing.gossip_fanout).cloned().collect();
        for peer in chosen {
            if let Some(address) = self.members.get(&peer).map(|member| member.address) {
                self.send_plain(address, message.clone());
            }
        }
    }

    /// Queues an event of ours for the neighbours in `network`.
    pub(super) fn say_entry(&mut self, network: &NetworkId, id: EntryId, event: Vec<u8>) {
        if event.len() + EVENT_HEAD + EVENTS_HEAD > self.packet_room() {
            self.push_to_neighbours(network);
            return;
        }
        if let Some(own) = self.networks.get_mut(network) {
            own.relayed.remove(&id);
            own.events.push(id, event);
        }
        self.table_news_soon(network);
    }
}
