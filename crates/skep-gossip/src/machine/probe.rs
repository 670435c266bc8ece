use super::Gossip;
use crate::codec::{
    Ack, Alive, IndirectPing, Message, Nack, NodeState, StreamMessage, Suspect, compound,
};
use crate::counters::DropCause;
use crate::names::NodeName;
use crate::time::Moment;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use std::net::SocketAddr;

/// A ping of ours that is not answered yet, by its number.
#[derive(Debug)]
pub(super) enum Pending {
    /// The member whose turn it is.
    Probe,
    /// Asked for `asker`, whose own number is `seq`.
    Relay { asker: SocketAddr, seq: u32, nack_at: Option<Moment>, expires: Moment },
    /// Does `name` live at the address it claims?
    Candidate { name: NodeName, expires: Moment },
    /// To make a node deny its death; the answer itself says nothing.
    Nudge { expires: Moment },
}

/// A name that claims the address of a living member.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) claim: Alive,
    pub(super) tries: u8,
    pub(super) next: Moment,
}

impl Candidate {
    pub(super) const MOST: usize = 256;
    pub(super) const TRIES: u8 = 4;
}

/// The probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) node: NodeName,
    seq: u32,
    incarnation: u32,
    /// When others are asked; `None` once they are.
    indirect_at: Option<Moment>,
    /// When it has failed.
    ends: Moment,
    nacks_expected: u32,
    nacks: u32,
    /// It answered somebody else who asked for us.
    relayed: bool,
}

impl Gossip {
    /// Probes the next member.
    pub(super) fn start_probe(&mut self) {
        if self.probe.is_some() {
            return;
        }
        let Some(node) = self.next_to_probe() else { return };
        let Some(member) = self.members.get(&node) else { return };
        let (address, incarnation, state) = (member.address, member.incarnation, member.state);
        let timing = self.config.timing;
        let seq = self.next_seq();
        self.pending.insert(seq, Pending::Probe);
        let ping = Message::Ping(self.ping_message(seq, node.as_str()));
        if state == NodeState::Alive {
            self.send_with_news(address, &ping);
        } else {
            // It shall hear of the suspicion first, to deny it as soon as possible.
            let from = self.config.name.to_string();
            let suspect = Suspect { incarnation, node: node.to_string(), from };
            let parts = vec![ping.encode(), Message::Suspect(suspect).encode()];
            self.send_plain(address, compound(parts));
        }
        self.probe = Some(Probe {
            node,
            seq,
            incarnation,
            indirect_at: Some(self.now + timing.probe_timeout),
            ends: self.now + self.awareness.scale(timing.probe_interval),
            nacks_expected: 0,
            nacks: 0,
            relayed: false,
        });
    }

    /// Each member once, in random order, then again: so a death is noticed within one turn.
    fn next_to_probe(&mut self) -> Option<NodeName> {
        for _ in 0..2 {
            while let Some(name) = self.probe_ring.pop() {
                if self.members.get(&name).is_some_and(|member| member.is_present()) {
                    return Some(name);
                }
            }
            let present = self.members.iter().filter(|(_, member)| member.is_present());
            self.probe_ring = present.map(|(name, _)| name.clone()).collect();
            self.probe_ring.shuffle(&mut self.rng);
        }
        None
    }

    /// Goes on with the probe under way.
    pub(super) fn continue_probe(&mut self) {
        let now = self.now;
        let Some(probe) = &mut self.probe else { return };
        if probe.ends <= now {
            self.fail_probe();
        } else if probe.indirect_at.is_some_and(|at| at <= now) {
            probe.indirect_at = None;
            let (node, seq) = (probe.node.clone(), probe.seq);
            self.probe_indirectly(&node, seq);
        }
    }

    fn probe_indirectly(&mut self, node: &NodeName, seq: u32) {
        let Some(target) = self.members.get(node) else { return };
        let (address, by_stream) = (target.address, target.versions[1] >= 3);
        let helpers: Vec<_> = self
            .members
            .iter()
            .filter(|(name, member)| *name != node && member.state == NodeState::Alive)
            .map(|(_, member)| (member.address, member.versions[1] >= 4))
            .collect();
        let count = self.config.timing.indirect_checks;
        let helpers: Vec<_> = helpers.choose_multiple(&mut self.rng, count).copied().collect();
        for (helper, nack) in helpers {
            if nack && let Some(probe) = &mut self.probe {
                probe.nacks_expected += 1;
            }
            let ask = IndirectPing {
                seq,
                target: address,
                node: node.to_string(),
                nack,
                source: Some(self.config.advertise),
                source_node: self.config.name.to_string(),
            };
            self.send(helper, &Message::IndirectPing(ask));
        }
        if by_stream {
            let ping = StreamMessage::Ping(self.ping_message(seq, node.as_str()));
            self.open(address, &ping, super::streams::Purpose::Ping { seq });
        }
    }

    fn fail_probe(&mut self) {
        let Some(probe) = self.probe.take() else { return };
        self.pending.remove(&probe.seq);
        if probe.relayed {
            self.awareness.better();
            self.counters.probes_by_others += 1;
            self.member_answered(&probe.node, false);
            return;
        }
        self.counters.probes_failed += 1;
        // Helpers that did not even say "no" hint at a fault of ours.
        let fault = match probe.nacks_expected {
            0 => 1,
            expected => expected.saturating_sub(probe.nacks),
        };
        self.awareness.worse(fault);
        let from = self.config.name.clone();
        if let Err(cause) = self.suspect(&probe.node, probe.incarnation, from) {
            self.counters.drop(cause);
        }
    }

    pub(super) fn acknowledged(&mut self, from: SocketAddr, seq: u32) -> Result<(), DropCause> {
        match self.pending.remove(&seq) {
            Some(Pending::Probe) => match self.relayed_by(from) {
                // It lives. Whether it also answers us is waited for until the end.
                Some(probe) => {
                    probe.relayed = true;
                    self.pending.insert(seq, Pending::Probe);
                }
                None => self.probe_answered(seq),
            },
            Some(Pending::Relay { asker, seq, .. }) => {
                self.send(asker, &Message::Ack(Ack { seq }));
            }
            Some(Pending::Candidate { name, .. }) => self.candidate_answered(&name),
            Some(Pending::Nudge { .. }) => {}
            None => return Err(DropCause::Unasked),
        }
        Ok(())
    }

    /// The probe under way, if others were asked and `from` is one of them. An answer from an address that nobody
    /// has is the member's own: its host has several.
    fn relayed_by(&mut self, from: SocketAddr) -> Option<&mut Probe> {
        let asked = self.probe.as_ref()?;
        let helper = asked.indirect_at.is_none()
            && self.members_at(from).any(|(name, m)| *name != asked.node && m.is_present())
            && !self.members_at(from).any(|(name, _)| *name == asked.node);
        self.probe.as_mut().filter(|_| helper)
    }

    /// The member whose turn it is answered this node.
    pub(super) fn probe_answered(&mut self, seq: u32) {
        if let Some(probe) = self.probe.take_if(|probe| probe.seq == seq) {
            self.pending.remove(&seq);
            self.awareness.better();
            self.member_answered(&probe.node, true);
        }
    }

    pub(super) fn not_acknowledged(&mut self, seq: u32) -> Result<(), DropCause> {
        match &mut self.probe {
            Some(probe) if probe.seq == seq => {
                probe.nacks += 1;
                Ok(())
            }
            _ => Err(DropCause::Unasked),
        }
    }

    /// Says "no" to those who asked us to ask, and forgets what will not be answered.
    pub(super) fn end_pending(&mut self) {
        let now = self.now;
        let mut nacks = Vec::new();
        self.pending.retain(|_, pending| match pending {
            Pending::Probe => true,
            Pending::Relay { asker, seq, nack_at, expires } => {
                if nack_at.is_some_and(|at| at <= now) {
                    *nack_at = None;
                    nacks.push((*asker, *seq));
                }
                *expires > now
            }
            Pending::Candidate { expires, .. } | Pending::Nudge { expires } => *expires > now,
        });
        for (asker, seq) in nacks {
            self.send(asker, &Message::Nack(Nack { seq }));
        }
    }

    pub(super) fn next_pending(&self) -> Option<Moment> {
        let pending = self.pending.values().filter_map(|pending| match pending {
            Pending::Probe => None,
            Pending::Relay { nack_at, expires, .. } => Some(nack_at.unwrap_or(*expires)),
            Pending::Candidate { expires, .. } | Pending::Nudge { expires } => Some(*expires),
        });
        let candidates = self.candidates.values().map(|candidate| candidate.next);
        let probe = self.probe.iter().map(|p| p.indirect_at.unwrap_or(p.ends).min(p.ends));
        pending.chain(candidates).chain(probe).min()
    }

    /// This node stood still: answers may wait unread.
    pub(super) fn give_probe_up(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.pending.remove(&probe.seq);
        }
    }
}
