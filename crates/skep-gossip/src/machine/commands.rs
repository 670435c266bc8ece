use super::{CommandError, Event, Gossip, Put};
use crate::codec::{Dead, Keyring, Message};
use crate::names::{EntryId, NetworkId};
use crate::tables::entry::Entry;
use crate::tables::network::OwnNetwork;
use crate::tables::wire::{Presence, TableEventType};
use crate::time::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a leaving node repeats its good-bye.
const GOOD_BYE: Duration = Duration::from_secs(1);
/// Most nodes that hear something important at once, rather than by rounds.
const SHOUT: usize = 16;
/// Longest value: far below the largest stream, far above any record.
const MAX_VALUE: usize = 1 << 20;

impl Gossip {
    /// Sets the addresses to (re)join by: whenever none of them is a member, they are tried. Own
    /// addresses among them are ignored.
    pub fn set_bootstrap(&mut self, peers: Vec<SocketAddr>, now: Moment) {
        self.advance(now);
        let peers: Vec<_> = peers.into_iter().filter(|p| *p != self.config.advertise).collect();
        if peers != self.bootstrap {
            self.bootstrap = peers;
            self.rejoin();
        }
    }

    /// Tries the bootstrap peers if none of them is a member.
    pub(super) fn rejoin(&mut self) {
        if self.leave_until.is_some() {
            return;
        }
        let known = |peer: &SocketAddr| self.member_at(*peer).is_some_and(|(_, m)| m.is_present());
        if self.bootstrap.iter().any(known) {
            return;
        }
        for peer in self.bootstrap.clone() {
            self.push_pull_with(peer, true);
        }
    }

    /// A node took this one in.
    pub(super) fn joined(&mut self, at: SocketAddr) {
        if let Some(name) = self.member_at(at).map(|(name, _)| name.clone()) {
            if let Some(member) = self.members.get_mut(&name).filter(|m| !m.is_present()) {
                // It answers, so it will deny its death in no time.
                member.retry_at = self.now + self.config.timing.gossip_interval;
            } else {
                self.sync_later(&name, self.config.timing.gossip_delay);
            }
        }
        self.announce();
        self.say_node(Presence::Join);
    }

    /// Tries failed nodes again, one at a time each, the less often the longer they are dead.
    pub(super) fn reconnect(&mut self) {
        let timing = self.config.timing;
        let now = self.now;
        let slowest = timing.reconnect_interval * 15;
        let mut due = Vec::new();
        for member in self.members.values_mut() {
            let failed = member.state == crate::codec::NodeState::Dead;
            if failed && member.retry_at <= now {
                let age = now.since(member.since);
                member.retry_at = now + (age / 4).clamp(timing.reconnect_interval, slowest);
                due.push(member.address);
            }
        }
        for address in due {
            self.push_pull_with(address, true);
        }
    }

    /// Says good-bye. [`Event::LeaveDone`] comes when it has been heard, or after a second; until
    /// then the driver goes on. Nothing can be commanded afterwards.
    pub fn leave(&mut self, now: Moment) {
        self.advance(now);
        if self.leave_until.is_some() {
            return;
        }
        self.say_node(Presence::Leave);
        let name = self.config.name.clone();
        let (node, from) = (name.to_string(), name.to_string());
        let dead = Dead { incarnation: self.incarnation, node, from };
        self.broadcast_member(&name, &Message::Dead(dead));
        self.leave_until = Some(self.now + GOOD_BYE);
        self.give_probe_up();
        self.shout(SHOUT);
    }

    pub(super) fn end_leave(&mut self) {
        let over = self.leave_until.is_some_and(|end| end <= self.now || self.news.is_empty());
        if over && !self.left {
            self.left = true;
            self.event(Event::LeaveDone);
        }
    }

    /// Takes part in `network`: learns its entries, and may have some. Nothing happens if it
    /// already does.
    pub fn join_network(&mut self, network: &NetworkId, now: Moment) -> Result<(), CommandError> {
        self.advance(now);
        self.not_left()?;
        if self.networks.get(network).is_some_and(OwnNetwork::is_joined) {
            return Ok(());
        }
        self.networks.insert(network.clone(), OwnNetwork::joined(0));
        self.say_network(network, Presence::Join);
        // Table events of ours are only taken by those who know that we are in the network.
        let neighbours = self.neighbours(network);
        let l_time = self.networks.get(network).map_or(0, |own| own.attachment.l_time);
        let payload = self.network_payload(network, Presence::Join, l_time);
        for peer in neighbours.iter().take(SHOUT) {
            if let Some(address) = self.members.get(peer).map(|member| member.address) {
                self.send(address, &Message::User(payload.clone()));
            }
        }
        for peer in &neighbours {
            self.sync_later(peer, self.config.timing.gossip_delay);
        }
        if let Some(own) = self.networks.get_mut(network) {
            own.first_sync = neighbours.into_iter().collect();
        }
        Ok(())
    }

    /// Leaves `network`: own entries in it are gone for everyone, those of others for this node.
    /// Nothing happens if it is not in it.
    pub fn leave_network(&mut self, network: &NetworkId, now: Moment) -> Result<(), CommandError> {
        self.advance(now);
        self.not_left()?;
        let now = self.now;
        let Some(own) = self.networks.get_mut(network).filter(|own| own.is_joined()) else {
            return Ok(());
        };
        *own = OwnNetwork::joined(0);
        own.attachment.left_until = Some(now + self.config.timing.reap_network);
        self.say_network(network, Presence::Leave);
        let name = self.config.name.clone();
        self.remove_entries(None, Some(network), |_, entry| entry.owner != name);
        // Whoever misses that we left learns it from the tombstones when we are back.
        let expires = Some(now + self.config.timing.reap_entry);
        let own: Vec<_> = self.of_network(network).map(|(id, _)| id.clone()).collect();
        for id in own {
            let l_time = self.table_clock.next();
            if let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.deleted) {
                (entry.l_time, entry.deleted, entry.expires) = (l_time, true, expires);
            }
        }
        Ok(())
    }

    /// Says that the entry `id` of this node is `value`. An entry of another node under the same
    /// key is taken over.
    pub fn put(&mut self, id: EntryId, value: Vec<u8>, now: Moment) -> Result<Put, CommandError> {
        self.advance(now);
        self.not_left()?;
        for name in [id.table.as_str(), id.key.as_str()] {
            if name.is_empty() || name.contains('/') {
                return Err(CommandError::Name { name: name.to_owned() });
            }
        }
        if value.len() > MAX_VALUE {
            return Err(CommandError::Value { len: value.len(), limit: MAX_VALUE });
        }
        if !self.networks.get(&id.network).is_some_and(OwnNetwork::is_joined) {
            return Err(CommandError::NotJoined { network: id.network });
        }
        let owner = self.config.name.clone();
        let (kind, done) = match self.entries.get(&id).filter(|entry| self.is_seen(entry)) {
            Some(old) if old.owner == owner && old.value == value => return Ok(Put::Unchanged),
            Some(_) => (TableEventType::Update, Put::Updated),
            None => (TableEventType::Create, Put::Created),
        };
        let l_time = self.table_clock.next();
        let entry = Entry { l_time, owner, value, deleted: false, expires: None };
        self.say(id, entry, kind);
        Ok(done)
    }

    /// Takes back the entry `id` of this node.
    pub fn delete(&mut self, id: &EntryId, now: Moment) -> Result<(), CommandError> {
        self.advance(now);
        self.not_left()?;
        let own = self.entries.get(id);
        let own = own.filter(|entry| entry.owner == self.config.name && !entry.deleted);
        let mut entry = own.cloned().ok_or_else(|| CommandError::NotOurs(id.clone()))?;
        entry.l_time = self.table_clock.next();
        entry.deleted = true;
        entry.expires = Some(self.now + self.config.timing.reap_entry);
        self.say(id.clone(), entry, TableEventType::Delete);
        Ok(())
    }

    /// Uses other keys from now on: opens with any, seals with the primary.
    pub fn set_keyring(&mut self, keyring: Option<Keyring>) {
        self.keyring = keyring;
    }

    fn say(&mut self, id: EntryId, entry: Entry, kind: TableEventType) {
        let event = entry.event(&id, kind, self.now);
        self.store(id.clone(), entry);
        let network = id.network.clone();
        self.say_entry(&network, id, event);
    }

    pub(super) fn not_left(&self) -> Result<(), CommandError> {
        if self.leave_until.is_some() { Err(CommandError::Left) } else { Ok(()) }
    }
}
