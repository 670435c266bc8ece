use super::{Event, Gossip, News};
use crate::codec::{Message, NodeState};
use crate::counters::DropCause;
use crate::names::{EntryId, NetworkId, NodeName};
use crate::tables::Clock;
use crate::tables::entry::Entry;
use crate::tables::network::Attachment;
use crate::tables::wire::{
    CompoundMessage, GossipMessage, MessageType, NetworkEvent, NodeEvent, Presence, TableEvent,
    TableEventType,
};
use std::time::Duration;

type Handled = Result<(), DropCause>;

/// Compounds within compounds that are followed; Docker's nest once.
const MAX_DEPTH: usize = 3;
/// With more than this waiting, what a bulk sync brought is not passed on: the others will get it
/// by their own.
const MAX_RELAYED: usize = 500;
/// Most owners remembered whose events came too early.
const MAX_MISSED: usize = 4096;
/// A new neighbour has this long to sync by itself.
const NEIGHBOUR_DELAY: Duration = Duration::from_secs(1);

impl Gossip {
    /// Takes in a message of the tables.
    pub(super) fn table_message(&mut self, payload: &[u8], bulk: bool) -> Handled {
        self.table_message_at(payload, bulk, 0)
    }

    fn table_message_at(&mut self, payload: &[u8], bulk: bool, depth: usize) -> Handled {
        if depth > MAX_DEPTH {
            return Err(DropCause::TooDeep);
        }
        let message = decode::<GossipMessage>(payload)?;
        let data = &message.data[..];
        match message.r#type() {
            MessageType::NodeEvent => self.node_event(decode(data)?),
            MessageType::NetworkEvent => self.network_event(decode(data)?),
            MessageType::TableEvent => self.table_event(decode(data)?, bulk),
            MessageType::BulkSync if depth == 0 => self.bulk_sync(decode(data)?),
            MessageType::Compound => {
                for part in decode::<CompoundMessage>(data)?.messages {
                    if let Err(cause) = self.table_message_at(&part.payload, bulk, depth + 1) {
                        self.counters.drop(cause);
                    }
                }
                Ok(())
            }
            MessageType::Question if !bulk => self.asked(decode(data)?),
            MessageType::Answer if !bulk => self.answered(data),
            MessageType::Question | MessageType::Answer => Err(DropCause::UnknownType),
            MessageType::BulkSync | MessageType::PushPull | MessageType::Invalid => {
                Err(DropCause::UnknownType)
            }
        }
    }

    /// A node says hello or good-bye.
    pub(super) fn node_event(&mut self, event: NodeEvent) -> Handled {
        let presence = presence(event.r#type)?;
        self.witness_network(event.l_time)?;
        let name = NodeName::from(event.node_name.as_str());
        if name == self.config.name {
            if presence == Presence::Leave && self.leave_until.is_none() {
                self.say_node(Presence::Join);
            }
            return Ok(());
        }
        let was_seen = self.is_owner_seen(&name);
        let member = self.members.get_mut(&name).ok_or(DropCause::UnknownNode)?;
        if member.l_time >= event.l_time {
            return Ok(());
        }
        member.l_time = event.l_time;
        let bye = presence == Presence::Leave;
        if member.said_bye == bye {
            return Ok(());
        }
        member.said_bye = bye;
        if bye && member.state == NodeState::Dead {
            member.state = NodeState::Left;
        }
        let (address, present) = (member.address, member.is_present());
        if bye {
            self.purge(&name, was_seen);
            if present {
                let since = self.now;
                self.event(Event::NodeLeft { name: name.clone(), address, since });
            }
        } else {
            self.seen_changed(&name, was_seen);
            if present {
                let since = self.now;
                self.event(Event::NodeUp { name: name.clone(), address, since });
                self.catch_up_with(&name, true);
            }
        }
        self.tell(News::Node(name), GossipMessage::wrap(MessageType::NodeEvent, &event));
        Ok(())
    }

    /// A node comes to, or leaves, a network.
    pub(super) fn network_event(&mut self, event: NetworkEvent) -> Handled {
        let presence = presence(event.r#type)?;
        self.witness_network(event.l_time)?;
        let name = NodeName::from(event.node_name.as_str());
        let network = NetworkId::from(event.network_id.as_str());
        if name == self.config.name {
            self.claimed_attachment(&network, presence, event.l_time);
            return Ok(());
        }
        let joins = presence == Presence::Join;
        let member = self.members.get(&name).ok_or(DropCause::UnknownNode)?;
        if member.said_bye {
            return Ok(());
        }
        let known = self.attachments.entry(name.clone()).or_default();
        let left_until = (!joins).then(|| self.now + self.config.timing.reap_network);
        let attachment = Attachment { l_time: event.l_time, left_until };
        let was_attached = match known.get(&network) {
            Some(old) if old.l_time >= event.l_time => return Ok(()),
            Some(old) => old.left_until.is_none(),
            None if !joins => return Ok(()),
            None if known.len() >= self.config.limits.networks_per_node => {
                return Err(DropCause::Full);
            }
            None => false,
        };
        known.insert(network.clone(), attachment);
        if joins && !was_attached {
            self.new_neighbour(&name, &network);
        } else if !joins {
            self.remove_entries(None, Some(&network), |_, entry| entry.owner == name);
        }
        let news = News::Network(name, network);
        self.tell(news, GossipMessage::wrap(MessageType::NetworkEvent, &event));
        Ok(())
    }

    /// A node came to a network. If it is one of ours, we need its entries and it needs ours.
    fn new_neighbour(&mut self, name: &NodeName, network: &NetworkId) {
        if !self.networks.get(network).is_some_and(|own| own.is_joined()) {
            return;
        }
        let missed = self.missed.remove(&(name.clone(), network.clone()));
        let delay = if missed { self.config.timing.gossip_delay } else { NEIGHBOUR_DELAY };
        self.sync_later(name, delay);
    }

    /// Others believe something of our own attachment that we did not say.
    fn claimed_attachment(&mut self, network: &NetworkId, presence: Presence, l_time: u64) {
        let own = self.networks.get(network);
        let joined = own.is_some_and(|own| own.is_joined());
        let newer = own.is_none_or(|own| own.attachment.l_time < l_time);
        let wrong = joined != (presence == Presence::Join);
        if newer && wrong && self.leave_until.is_none() {
            self.say_network(network, if joined { Presence::Join } else { Presence::Leave });
        }
    }

    /// An entry changed.
    pub(super) fn table_event(&mut self, event: TableEvent, bulk: bool) -> Handled {
        let kind = event.r#type();
        if kind == TableEventType::Invalid {
            return Err(DropCause::Malformed);
        }
        if event.l_time >= Clock::ABSURD {
            return Err(DropCause::AbsurdClock);
        }
        self.table_clock.witness(event.l_time);
        let owner = NodeName::from(event.node_name.as_str());
        let id =
            EntryId::new(event.network_id.as_str(), event.table_name.as_str(), event.key.as_str());
        let Some(own) = self.networks.get(&id.network).filter(|own| own.is_joined()) else {
            return Err(DropCause::NotAttached);
        };
        let in_sync = own.first_sync.is_empty();
        let deleted = kind == TableEventType::Delete;
        if owner == self.config.name {
            self.claimed_entry(&id, event.l_time, deleted);
            return Ok(());
        }
        if !self.is_attached(&owner, &id.network) {
            if !bulk && self.members.contains_key(&owner) && self.missed.len() < MAX_MISSED {
                self.missed.insert((owner, id.network));
            }
            return Err(DropCause::NotAttached);
        }
        let old = self.entries.get(&id);
        if old.is_some_and(|old| !old.is_older_than(event.l_time, &owner)) {
            return Ok(());
        }
        if old.is_none() && self.entries.len() >= self.config.limits.entries {
            return Err(DropCause::Full);
        }
        let unknown = old.is_none();
        let reap = self.config.timing.reap_entry;
        let residual = u64::try_from(event.residual_reap_time).unwrap_or(0);
        let residual = match residual {
            0 => reap,
            seconds => Duration::from_secs(seconds).min(reap),
        };
        let seen = self.is_owner_seen(&owner);
        let expires = (deleted || !seen).then(|| self.now + residual);
        let l_time = event.l_time;
        let entry = Entry { l_time, owner, value: event.value.clone(), deleted, expires };
        self.store(id.clone(), entry);
        // A tombstone of something unknown goes round only while others may not have it yet.
        let pass_on = !(unknown && deleted) || (bulk && residual > reap / 6);
        let own = self.networks.get_mut(&id.network);
        if let Some(own) = own
            && pass_on
            && in_sync
            && (!bulk || own.relayed.len() <= MAX_RELAYED)
        {
            own.relayed.push(id.clone(), GossipMessage::wrap(MessageType::TableEvent, &event));
            self.table_news_soon(&id.network);
        }
        Ok(())
    }

    /// Others hold an entry in our name, with a time that we did not give it: lost tombstones, or
    /// what an entry was before we changed it twice. What we have is the truth; say it again.
    fn claimed_entry(&mut self, id: &EntryId, l_time: u64, deleted: bool) {
        let known = self.entries.get(id).filter(|entry| entry.owner == self.config.name);
        let wrong = match known {
            Some(own) => l_time > own.l_time,
            None => !deleted && self.entries.get(id).is_none_or(|other| other.l_time < l_time),
        };
        if !wrong {
            return;
        }
        let reap = self.now + self.config.timing.reap_entry;
        let mut entry = known.cloned().unwrap_or_else(|| Entry {
            l_time: 0,
            owner: self.config.name.clone(),
            value: Vec::new(),
            deleted: true,
            expires: Some(reap),
        });
        entry.l_time = self.table_clock.next();
        let (network, event) = (id.network.clone(), TableEventType::Update);
        let bytes = entry.event(id, event, self.now);
        self.store(id.clone(), entry);
        self.say_entry(&network, id.clone(), bytes);
    }

    pub(super) fn is_attached(&self, node: &NodeName, network: &NetworkId) -> bool {
        let attachment = self.attachments.get(node).and_then(|networks| networks.get(network));
        attachment.is_some_and(|attachment| attachment.left_until.is_none())
    }

    pub(super) fn witness_network(&mut self, l_time: u64) -> Handled {
        if l_time >= Clock::ABSURD {
            return Err(DropCause::AbsurdClock);
        }
        self.network_clock.witness(l_time);
        Ok(())
    }

    /// Queues a message of the tables for everyone.
    pub(super) fn tell(&mut self, about: News, payload: Vec<u8>) {
        self.news.push(about, Message::User(payload).encode());
        self.news_soon();
    }

    /// Tells everyone that this node comes or goes.
    pub(super) fn say_node(&mut self, presence: Presence) {
        let event = NodeEvent {
            r#type: presence as i32,
            l_time: self.network_clock.next(),
            node_name: self.config.name.to_string(),
        };
        let news = News::Node(self.config.name.clone());
        self.tell(news, GossipMessage::wrap(MessageType::NodeEvent, &event));
    }

    /// Tells everyone that this node is in `network`, or is not.
    pub(super) fn say_network(&mut self, network: &NetworkId, presence: Presence) {
        let l_time = self.network_clock.next();
        if let Some(own) = self.networks.get_mut(network) {
            own.attachment.l_time = l_time;
        }
        let payload = self.network_payload(network, presence, l_time);
        self.tell(News::Network(self.config.name.clone(), network.clone()), payload);
    }

    pub(super) fn network_payload(
        &self,
        network: &NetworkId,
        presence: Presence,
        l_time: u64,
    ) -> Vec<u8> {
        let event = NetworkEvent {
            r#type: presence as i32,
            l_time,
            node_name: self.config.name.to_string(),
            network_id: network.to_string(),
        };
        GossipMessage::wrap(MessageType::NetworkEvent, &event)
    }
}

pub(super) fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, DropCause> {
    M::decode(bytes).map_err(|_| DropCause::Malformed)
}

fn presence(wire: i32) -> Result<Presence, DropCause> {
    match Presence::try_from(wire) {
        Ok(presence @ (Presence::Join | Presence::Leave)) => Ok(presence),
        _ => Err(DropCause::Malformed),
    }
}
