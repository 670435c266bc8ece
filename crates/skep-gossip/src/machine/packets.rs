use super::probe::Pending;
use super::{Gossip, Output};
use crate::codec::{
    Ack, Alive, Dead, IndirectPing, Message, Nack, PacketOptions, Ping, Suspect, compound,
    open_packet, seal_packet,
};
use crate::counters::DropCause;
use crate::membership::member::Member;
use crate::names::NodeName;
use crate::time::Moment;
use rand::Rng as _;
use std::net::SocketAddr;

/// Most questions of others that are under way at once.
const MAX_RELAYS: usize = 1024;

impl Gossip {
    /// Takes in a UDP packet.
    pub fn handle_packet(&mut self, from: SocketAddr, bytes: &[u8], now: Moment) {
        self.advance(now);
        self.counters.packets_in += 1;
        if self.left {
            return;
        }
        let inflated = self.config.limits.packet_inflated;
        match open_packet(bytes, self.keyring.as_ref(), inflated) {
            Ok(leaves) => {
                for leaf in leaves {
                    if let Err(cause) = leaf.and_then(|message| self.message(from, message)) {
                        self.counters.drop(cause);
                    }
                }
            }
            Err(cause) => self.counters.drop(cause),
        }
    }

    fn message(&mut self, from: SocketAddr, message: Message) -> Result<(), DropCause> {
        match message {
            Message::Ping(ping) => self.ping(from, &ping),
            Message::IndirectPing(ping) => self.indirect_ping(from, &ping),
            Message::Ack(Ack { seq }) => self.acknowledged(from, seq),
            Message::Nack(Nack { seq }) => self.not_acknowledged(seq),
            Message::Suspect(Suspect { incarnation, node, from }) => {
                self.suspect(&node.into(), incarnation, from.into())
            }
            Message::Dead(Dead { incarnation, node, from }) => {
                self.dead(&node.into(), incarnation, &from.into())
            }
            Message::Alive(alive) => self.alive(alive, false),
            Message::User(payload) => self.table_message(&payload, false),
        }
    }

    fn ping(&mut self, from: SocketAddr, ping: &Ping) -> Result<(), DropCause> {
        // A re-used address must not answer for the node that had it before.
        if !ping.node.is_empty() && ping.node != self.config.name.as_str() {
            return Err(DropCause::OtherNode);
        }
        let to = ping.source.unwrap_or(from);
        self.send_with_news(to, &Message::Ack(Ack { seq: ping.seq }));
        Ok(())
    }

    fn indirect_ping(&mut self, from: SocketAddr, ask: &IndirectPing) -> Result<(), DropCause> {
        let asker = ask.source.unwrap_or(from);
        // Only members are asked: this node is no means to reach others.
        if self.member_at(ask.target).is_none() {
            if ask.nack {
                self.send(asker, &Message::Nack(Nack { seq: ask.seq }));
            }
            return Err(DropCause::UnknownNode);
        }
        if self.pending.len() >= MAX_RELAYS {
            return Err(DropCause::Full);
        }
        let nack_at = ask.nack.then_some(self.now + self.config.timing.probe_timeout);
        let expires = self.now + self.config.timing.probe_interval * 2;
        let relay = Pending::Relay { asker, seq: ask.seq, nack_at, expires };
        self.ask(ask.target, &ask.node, relay);
        Ok(())
    }

    /// Sends a ping whose answer belongs to `purpose`.
    pub(super) fn ask(&mut self, to: SocketAddr, node: &str, purpose: Pending) -> u32 {
        let seq = self.next_seq();
        self.pending.insert(seq, purpose);
        let ping = self.ping_message(seq, node);
        self.send_with_news(to, &Message::Ping(ping));
        seq
    }

    pub(super) fn next_seq(&mut self) -> u32 {
        self.next_seq = self.next_seq.wrapping_add(1);
        self.next_seq
    }

    pub(super) fn ping_message(&self, seq: u32, node: &str) -> Ping {
        Ping {
            seq,
            node: node.to_owned(),
            source: Some(self.config.advertise),
            source_node: self.config.name.to_string(),
        }
    }

    pub(super) fn alive_message(&self) -> Alive {
        Alive {
            incarnation: self.incarnation,
            node: self.config.name.to_string(),
            address: self.config.advertise,
            meta: Vec::new(),
            versions: Some(super::VERSIONS),
        }
    }

    pub(super) fn member_at(&self, address: SocketAddr) -> Option<(&NodeName, &Member)> {
        self.members_at(address).next()
    }

    /// Whoever is, or was, at an address, by name.
    pub(super) fn members_at(
        &self,
        address: SocketAddr,
    ) -> impl Iterator<Item = (&NodeName, &Member)> {
        let names = self.addresses.get(&address).into_iter().flatten();
        names.filter_map(|name| Some((name, self.members.get(name)?)))
    }

    /// Sends one message.
    pub(super) fn send(&mut self, to: SocketAddr, message: &Message) {
        self.send_plain(to, message.encode());
    }

    /// Sends a message and as much news as fits beside it.
    pub(super) fn send_with_news(&mut self, to: SocketAddr, message: &Message) {
        let first = message.encode();
        let mut parts = self.take_news(Some(first.len()));
        parts.insert(0, first);
        self.send_plain(to, compound(parts));
    }

    pub(super) fn send_plain(&mut self, to: SocketAddr, plain: Vec<u8>) {
        let checksum = self.member_at(to).is_some_and(|(_, member)| member.reads_checksums());
        let nonce = self.nonce();
        let options = PacketOptions { checksum };
        let bytes = seal_packet(&plain, options, self.keyring.as_ref(), nonce);
        self.counters.packets_out += 1;
        self.outputs.push(Output::Packet { to, bytes });
    }

    pub(super) fn nonce(&mut self) -> [u8; 12] {
        self.rng.random()
    }
}
