use super::events::decode;
use super::{Gossip, Output, Token};
use crate::codec::{Ack, Alive, NodeState, PushPull, StreamMessage, open_stream, seal_stream};
use crate::counters::DropCause;
use crate::names::NodeName;
use crate::tables::wire::{
    GossipMessage, MessageType, NetworkEntry, NetworkEvent, NetworkPushPull, NodeEvent, Presence,
};
use crate::time::Moment;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Why a stream was opened.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// The probe under way, by its number.
    Ping { seq: u32 },
    /// Exchange of all that is known; `join` asks to be taken in again.
    PushPull { to: SocketAddr, join: bool },
    /// A bulk sync whose answer comes on another stream.
    Sync { peer: NodeName, attempts: u8 },
    /// The answer to one.
    SyncAnswer,
}

/// A stream whose outcome the driver still owes.
#[derive(Debug)]
pub(super) struct OpenStream {
    purpose: Purpose,
    expires: Moment,
}

impl OpenStream {
    pub(super) fn expires(&self) -> Moment {
        self.expires
    }
}

impl Gossip {
    pub(super) fn open(&mut self, to: SocketAddr, message: &StreamMessage, purpose: Purpose) {
        let timing = &self.config.timing;
        let (expects_reply, timeout) = match purpose {
            Purpose::Ping { .. } => (true, self.awareness.scale(timing.probe_interval)),
            Purpose::PushPull { .. } => (true, timing.stream_timeout),
            Purpose::Sync { .. } | Purpose::SyncAnswer => (false, timing.stream_timeout),
        };
        self.next_token += 1;
        let token = Token(self.next_token);
        let nonce = self.nonce();
        let bytes = seal_stream(message, self.keyring.as_ref(), nonce);
        self.counters.streams_out += 1;
        // Drivers report each outcome; should one not, nothing may wait for ever.
        let expires = self.now + timeout * 2;
        self.streams.insert(token, OpenStream { purpose, expires });
        self.outputs.push(Output::Stream { token, to, bytes, expects_reply, timeout });
    }

    /// Takes in what the other side of a stream that *it* opened said, and gives the answer to
    /// write, if there is one. The stream is over then.
    pub fn handle_stream_request(
        &mut self,
        from: SocketAddr,
        frame: &[u8],
        now: Moment,
    ) -> Option<Vec<u8>> {
        self.advance(now);
        self.counters.streams_in += 1;
        if self.left {
            return None;
        }
        let inflated = self.config.limits.stream_inflated;
        let opened = open_stream(frame, self.keyring.as_ref(), inflated);
        match opened.and_then(|message| self.stream_request(from, message)) {
            Ok(answer) => answer.map(|answer| {
                let nonce = self.nonce();
                seal_stream(&answer, self.keyring.as_ref(), nonce)
            }),
            Err(cause) => {
                self.counters.drop(cause);
                None
            }
        }
    }

    fn stream_request(
        &mut self,
        from: SocketAddr,
        message: StreamMessage,
    ) -> Result<Option<StreamMessage>, DropCause> {
        match message {
            StreamMessage::PushPull(theirs) => {
                // What they are wrong about is in the answer, so that they can deny it.
                let wrong = theirs.nodes.iter().filter(|(_, state)| *state == NodeState::Alive);
                let wrong = wrong.map(|(alive, _)| NodeName::from(alive.node.as_str())).collect();
                let answer = self.local_state(theirs.join, &wrong);
                self.merge(from, theirs)?;
                Ok(Some(StreamMessage::PushPull(answer)))
            }
            StreamMessage::User(payload) => self.table_message(&payload, false).map(|()| None),
            StreamMessage::Ping(ping) if ping.node == self.config.name.as_str() => {
                Ok(Some(StreamMessage::Ack(Ack { seq: ping.seq })))
            }
            StreamMessage::Ping(_) => Err(DropCause::OtherNode),
            StreamMessage::Ack(_) => Err(DropCause::Unasked),
            StreamMessage::Error(_) => Err(DropCause::PeerError),
        }
    }

    /// Takes in the answer on a stream that this node opened.
    pub fn handle_stream_reply(&mut self, token: Token, frame: &[u8], now: Moment) {
        self.advance(now);
        let Some(stream) = self.streams.remove(&token) else { return };
        let inflated = self.config.limits.stream_inflated;
        let opened = open_stream(frame, self.keyring.as_ref(), inflated);
        let handled = match (opened, &stream.purpose) {
            (Ok(StreamMessage::PushPull(theirs)), Purpose::PushPull { to, join }) => {
                let (to, join) = (*to, *join);
                self.merge(to, theirs).map(|()| {
                    if join {
                        self.joined(to);
                    }
                })
            }
            (Ok(StreamMessage::Ack(ack)), Purpose::Ping { seq }) if ack.seq == *seq => {
                self.counters.probes_by_stream += 1;
                self.probe_answered(*seq);
                Ok(())
            }
            (Ok(StreamMessage::Error(_)), _) => Err(DropCause::PeerError),
            (Ok(_), _) => Err(DropCause::Unasked),
            (Err(cause), _) => Err(cause),
        };
        if let Err(cause) = handled {
            self.counters.drop(cause);
            self.stream_failed(stream.purpose);
        }
    }

    /// A stream without answer was written and closed.
    pub fn handle_stream_sent(&mut self, token: Token, now: Moment) {
        self.advance(now);
        self.streams.remove(&token);
    }

    /// A stream could not be opened, written or read, or took too long.
    pub fn handle_stream_failed(&mut self, token: Token, now: Moment) {
        self.advance(now);
        if let Some(stream) = self.streams.remove(&token) {
            self.stream_failed(stream.purpose);
        }
    }

    /// A stream of the other side could not be read; `cause` as [`FrameReader`] said.
    ///
    /// [`FrameReader`]: crate::FrameReader
    pub fn handle_bad_stream(&mut self, cause: DropCause, now: Moment) {
        self.advance(now);
        self.counters.streams_in += 1;
        self.counters.drop(cause);
    }

    fn stream_failed(&mut self, purpose: Purpose) {
        if let Purpose::Sync { peer, attempts } = purpose {
            self.sync_failed(&peer, attempts);
        }
    }

    pub(super) fn end_streams(&mut self) {
        let late = self.streams.iter().filter(|(_, stream)| stream.expires <= self.now);
        let late: Vec<_> = late.map(|(token, _)| *token).collect();
        for token in late {
            if let Some(stream) = self.streams.remove(&token) {
                self.stream_failed(stream.purpose);
            }
        }
    }

    pub(super) fn is_exchanging_with(&self, address: SocketAddr) -> bool {
        self.streams
            .values()
            .any(|stream| matches!(stream.purpose, Purpose::PushPull { to, .. } if to == address))
    }

    /// Exchanges all that is known with whoever is at `to`.
    pub(super) fn push_pull_with(&mut self, to: SocketAddr, join: bool) {
        if self.is_exchanging_with(to) {
            return;
        }
        // The node there must hear what is believed of it.
        let there = self.members.iter().filter(|(_, member)| member.address == to);
        let mention = there.map(|(name, _)| name.clone()).collect();
        let state = self.local_state(join, &mention);
        self.open(to, &StreamMessage::PushPull(state), Purpose::PushPull { to, join });
    }

    /// All that this node knows. The long dead are left out, but for those to `mention`.
    fn local_state(&mut self, join: bool, mention: &BTreeSet<NodeName>) -> PushPull {
        if join {
            // Others may still have us as gone; only a later time overrules that.
            let joined: Vec<_> = self.networks().cloned().collect();
            for network in joined {
                let l_time = self.network_clock.next();
                if let Some(own) = self.networks.get_mut(&network) {
                    own.attachment.l_time = l_time;
                }
            }
        }
        let recent = self.config.timing.gossip_to_dead;
        let told = self.members.iter().filter(|(name, member)| {
            member.is_present() || self.now.since(member.since) <= recent || mention.contains(*name)
        });
        let mut nodes: Vec<_> = told.map(|(name, m)| (m.alive(name), m.state)).collect();
        let state = if self.leave_until.is_some() { NodeState::Left } else { NodeState::Alive };
        nodes.push((self.alive_message(), state));
        PushPull { join, nodes, user_state: self.user_state() }
    }

    fn user_state(&self) -> Vec<u8> {
        let own_name = &self.config.name;
        let own = self.networks.iter().map(|(id, own)| (own_name, id, &own.attachment));
        let others = self.attachments.iter().flat_map(|(name, networks)| {
            networks.iter().map(move |(id, attachment)| (name, id, attachment))
        });
        let networks = own.chain(others).map(|(name, network, attachment)| NetworkEntry {
            network_id: network.to_string(),
            l_time: attachment.l_time,
            node_name: name.to_string(),
            leaving: attachment.left_until.is_some(),
        });
        let state = NetworkPushPull {
            l_time: self.network_clock.now(),
            networks: networks.collect(),
            node_name: own_name.to_string(),
        };
        GossipMessage::wrap(MessageType::PushPull, &state)
    }

    fn merge(&mut self, from: SocketAddr, theirs: PushPull) -> Result<(), DropCause> {
        if theirs.nodes.iter().any(|(alive, state)| {
            let [least, most, ..] = alive.versions.unwrap_or(super::VERSIONS);
            *state == NodeState::Alive && (least > super::VERSIONS[1] || most < super::VERSIONS[0])
        }) {
            return Err(DropCause::Version);
        }
        let outer: Option<GossipMessage> =
            (!theirs.user_state.is_empty()).then(|| decode(&theirs.user_state)).transpose()?;
        let state: Option<NetworkPushPull> = match outer {
            Some(outer) if outer.r#type() == MessageType::PushPull => Some(decode(&outer.data)?),
            Some(_) => return Err(DropCause::UnknownType),
            None => None,
        };
        let sender = state.as_ref().map(|state| state.node_name.clone());
        for (alive, node) in theirs.nodes {
            let proven = sender.as_deref() == Some(alive.node.as_str())
                && alive.address.ip() == from.ip().to_canonical();
            if let Err(cause) = self.merge_node(alive, node, proven) {
                self.counters.drop(cause);
            }
        }
        let Some(state) = state else { return Ok(()) };
        let hello = NodeEvent {
            r#type: Presence::Join as i32,
            l_time: state.l_time,
            node_name: state.node_name,
        };
        if let Err(cause) = self.node_event(hello) {
            self.counters.drop(cause);
        }
        for entry in state.networks {
            let presence = if entry.leaving { Presence::Leave } else { Presence::Join };
            let event = NetworkEvent {
                r#type: presence as i32,
                l_time: entry.l_time,
                node_name: entry.node_name,
                network_id: entry.network_id,
            };
            if let Err(cause) = self.network_event(event) {
                self.counters.drop(cause);
            }
        }
        Ok(())
    }

    /// What another node believes of a third. Its deaths are only suspicions here: the accused may
    /// be cut off from the teller alone.
    fn merge_node(
        &mut self,
        alive: Alive,
        state: NodeState,
        proven: bool,
    ) -> Result<(), DropCause> {
        let name = NodeName::from(alive.node.as_str());
        match state {
            NodeState::Alive => self.alive(alive, proven),
            NodeState::Left => self.dead(&name, alive.incarnation, &name),
            NodeState::Suspect | NodeState::Dead => {
                let ours = name == self.config.name && alive.incarnation >= self.incarnation;
                if ours && state == NodeState::Dead {
                    self.introduce_again();
                }
                let from = self.config.name.clone();
                self.suspect(&name, alive.incarnation, from)
            }
        }
    }
}
