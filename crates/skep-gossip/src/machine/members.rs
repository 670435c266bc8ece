use super::probe::{Candidate, Pending};
use super::{Event, Gossip, News, VERSIONS};
use crate::codec::{Alive, Dead, Message, NodeState, Suspect, compound};
use crate::counters::DropCause;
use crate::membership::member::Member;
use crate::membership::suspicion::Suspicion;
use crate::names::NodeName;
use crate::tables::wire::Presence;
use crate::time::Moment;
use std::net::SocketAddr;
use std::time::Duration;

type Handled = Result<(), DropCause>;

/// Longest name or meta taken; memberlist's own limit for meta.
const MAX_META: usize = 512;
/// Between two questions to a dead node that is said to live.
const NUDGE_INTERVAL: Duration = Duration::from_millis(500);

impl Gossip {
    /// `claim.node` is said to live. `proven`: it said so itself, from its own address.
    pub(super) fn alive(&mut self, claim: Alive, proven: bool) -> Handled {
        if claim.node.is_empty() || claim.node.len() > MAX_META || claim.meta.len() > MAX_META {
            return Err(DropCause::Malformed);
        }
        let versions = claim.versions.unwrap_or(VERSIONS);
        let [least, most, ..] = versions;
        if least == 0 || least > most || least > VERSIONS[1] || most < VERSIONS[0] {
            return Err(DropCause::Version);
        }
        let name = NodeName::from(claim.node.as_str());
        if name == self.config.name {
            return self.claimed_alive(&claim, versions);
        }
        if claim.address == self.config.advertise {
            return self.evict_namesake_address(name, claim.incarnation);
        }
        if self.leave_until.is_some() {
            return Ok(());
        }
        if let Some(member) = self.members.get(&name) {
            let moved = member.address != claim.address;
            if moved && member.state != NodeState::Left {
                return Err(DropCause::Conflict);
            }
            if claim.incarnation <= member.incarnation && !moved {
                if member.state == NodeState::Dead {
                    self.nudge(&name);
                }
                return Ok(());
            }
        }
        let taken = self.occupant(claim.address, &name);
        if taken && !proven {
            return self.examine(name, claim);
        }
        self.admit(name, &claim, versions);
        Ok(())
    }

    /// Whether another living node has this address.
    fn occupant(&self, address: SocketAddr, except: &NodeName) -> bool {
        self.members_at(address).any(|(n, m)| n != except && m.is_present())
    }

    fn admit(&mut self, name: NodeName, claim: &Alive, versions: [u8; 6]) {
        if !self.members.contains_key(&name) && !self.make_room() {
            self.counters.drop(DropCause::Full);
            return;
        }
        self.candidates.remove(&name);
        self.replace_others_at(claim.address, &name);
        let now = self.now;
        let was_seen = self.is_owner_seen(&name);
        let known = self.members.contains_key(&name);
        let moved_from = self.members.get(&name).map(|m| m.address).filter(|a| *a != claim.address);
        if let Some(old) = moved_from {
            self.forget_address(old, &name);
        }
        self.addresses.entry(claim.address).or_default().insert(name.clone());
        let member = self.members.entry(name.clone()).or_insert_with(|| Member {
            address: claim.address,
            meta: Vec::new(),
            versions,
            incarnation: 0,
            state: NodeState::Dead,
            since: now,
            suspicion: None,
            l_time: 0,
            said_bye: false,
            retry_at: now,
            detours: 0,
            nudge_at: now,
        });
        let returned = !member.is_present();
        if member.state != NodeState::Alive {
            member.state = NodeState::Alive;
            member.since = now;
        }
        if returned {
            member.said_bye = false;
            member.detours = 0;
        }
        member.suspicion = None;
        member.incarnation = claim.incarnation;
        member.address = claim.address;
        member.meta.clone_from(&claim.meta);
        member.versions = versions;
        member.retry_at = now;
        self.broadcast_member(&name, &Message::Alive(claim.clone()));
        if returned {
            if self.probe.as_ref().is_some_and(|probe| probe.node == name) {
                self.probe = None;
            }
            self.event(Event::NodeUp { name: name.clone(), address: claim.address, since: now });
            self.seen_changed(&name, was_seen);
            self.catch_up_with(&name, known);
        }
    }

    /// `name` is at `address` for certain, so nobody else is.
    fn replace_others_at(&mut self, address: SocketAddr, name: &NodeName) {
        let others = self
            .members_at(address)
            .filter(|(other, member)| *other != name && member.state != NodeState::Left);
        let others: Vec<_> = others.map(|(other, m)| (other.clone(), m.incarnation)).collect();
        for (other, incarnation) in others {
            // Signed as by itself: that life is over, while the node has not failed, and whoever
            // hears of it may wait a moment for the new life's entries.
            let dead = Dead { incarnation, node: other.to_string(), from: other.to_string() };
            self.broadcast_member(&other, &Message::Dead(dead));
            self.gone(&other, incarnation, NodeState::Left);
        }
    }

    /// A new name claims the address of a living member. Either the claim is old and the member has
    /// the address now, or the member restarted. A ping by name decides it.
    fn examine(&mut self, name: NodeName, claim: Alive) -> Handled {
        if self.candidates.len() >= Candidate::MOST && !self.candidates.contains_key(&name) {
            return Err(DropCause::Full);
        }
        match self.candidates.get_mut(&name) {
            Some(known) if known.claim.incarnation >= claim.incarnation => {}
            Some(known) => known.claim = claim,
            None => {
                let candidate = Candidate { claim, tries: 0, next: self.now };
                self.candidates.insert(name, candidate);
                self.ask_candidates();
            }
        }
        Err(DropCause::Conflict)
    }

    /// Asks each candidate whose turn it is; forgets those that never answered.
    pub(super) fn ask_candidates(&mut self) {
        let now = self.now;
        let wait = self.config.timing.probe_timeout;
        self.candidates
            .retain(|_, candidate| candidate.tries < Candidate::TRIES || candidate.next > now);
        let due: Vec<_> = self.candidates.iter_mut().filter(|(_, c)| c.next <= now).collect();
        let mut questions = Vec::new();
        for (name, candidate) in due {
            candidate.tries += 1;
            candidate.next = now + wait;
            questions.push((name.clone(), candidate.claim.address));
        }
        for (name, address) in questions {
            let expires = now + wait * 4;
            let purpose = Pending::Candidate { name: name.clone(), expires };
            self.ask(address, name.as_str(), purpose);
        }
    }

    /// A candidate answered: it is the one at that address.
    pub(super) fn candidate_answered(&mut self, name: &NodeName) {
        if let Some(candidate) = self.candidates.remove(name)
            && let Err(cause) = self.alive(candidate.claim, true)
        {
            self.counters.drop(cause);
        }
    }

    /// A dead node is said to live, with nothing newer than its death. If it does, it will deny its
    /// death with a higher incarnation as soon as it hears of it.
    fn nudge(&mut self, name: &NodeName) {
        let Some(member) = self.members.get_mut(name).filter(|m| m.nudge_at <= self.now) else {
            return;
        };
        member.nudge_at = self.now + NUDGE_INTERVAL;
        let (to, incarnation) = (member.address, member.incarnation);
        let seq = self.next_seq();
        let ping = self.ping_message(seq, name.as_str());
        let from = self.config.name.to_string();
        let suspect = Suspect { incarnation, node: name.to_string(), from };
        let parts = vec![Message::Ping(ping).encode(), Message::Suspect(suspect).encode()];
        let expires = self.now + self.config.timing.probe_interval;
        self.pending.insert(seq, Pending::Nudge { expires });
        self.send_plain(to, compound(parts));
    }

    /// An older life of this node, or of another one at this address, is still said to live.
    fn evict_namesake_address(&mut self, name: NodeName, incarnation: u32) -> Handled {
        let dead = Dead { incarnation, node: name.to_string(), from: name.to_string() };
        self.broadcast_member(&name, &Message::Dead(dead));
        Err(DropCause::Conflict)
    }

    fn claimed_alive(&mut self, claim: &Alive, versions: [u8; 6]) -> Handled {
        if self.leave_until.is_some() || claim.incarnation < self.incarnation {
            return Ok(());
        }
        let same = claim.incarnation == self.incarnation
            && claim.meta.is_empty()
            && versions == VERSIONS
            && claim.address == self.config.advertise;
        if !same {
            self.refute(claim.incarnation);
        }
        Ok(())
    }

    /// Denies whatever was said of `incarnation` of this node.
    fn refute(&mut self, incarnation: u32) {
        self.incarnation = self.incarnation.max(incarnation).saturating_add(1);
        self.awareness.worse(1);
        self.counters.refutations += 1;
        self.announce();
    }

    /// Others held this node for dead. Docker's older nodes have forgotten then in which networks
    /// it is and what it owns, so they must hear it again, once they know that it lives.
    pub(super) fn introduce_again(&mut self) {
        let soon = self.now + self.config.timing.gossip_interval * 2;
        self.introduce_at.get_or_insert(soon);
    }

    pub(super) fn end_introduction(&mut self) {
        if self.introduce_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.introduce_at = None;
        self.say_node(Presence::Join);
        let networks: Vec<_> = self.networks().cloned().collect();
        for network in networks {
            self.say_network(&network, Presence::Join);
            for peer in self.neighbours(&network) {
                self.sync_later(&peer, self.config.timing.gossip_interval);
            }
        }
    }

    /// Tells everyone that this node lives.
    pub(super) fn announce(&mut self) {
        let name = self.config.name.clone();
        let alive = Message::Alive(self.alive_message());
        self.broadcast_member(&name, &alive);
    }

    /// `from` suspects `name`.
    pub(super) fn suspect(&mut self, name: &NodeName, incarnation: u32, from: NodeName) -> Handled {
        if *name == self.config.name {
            if incarnation >= self.incarnation && self.leave_until.is_none() {
                self.refute(incarnation);
            }
            return Ok(());
        }
        let nodes = self.cluster_size();
        let member = self.members.get_mut(name).ok_or(DropCause::UnknownNode)?;
        if incarnation < member.incarnation {
            return Ok(());
        }
        let message = Message::Suspect(Suspect {
            incarnation,
            node: name.to_string(),
            from: from.to_string(),
        });
        if let Some(suspicion) = &mut member.suspicion {
            if suspicion.confirm(from) {
                self.broadcast_member(name, &message);
            }
            return Ok(());
        }
        if member.state != NodeState::Alive {
            return Ok(());
        }
        member.incarnation = incarnation;
        member.state = NodeState::Suspect;
        member.since = self.now;
        member.suspicion = Some(Suspicion::new(&self.config.timing, nodes, from, self.now));
        self.broadcast_member(name, &message);
        Ok(())
    }

    /// `from` says that `name` died; `from` the node itself, that it leaves.
    pub(super) fn dead(&mut self, name: &NodeName, incarnation: u32, from: &NodeName) -> Handled {
        if *name == self.config.name {
            if incarnation >= self.incarnation && self.leave_until.is_none() {
                self.refute(incarnation);
                self.introduce_again();
            }
            return Ok(());
        }
        let member = self.members.get(name).ok_or(DropCause::UnknownNode)?;
        if incarnation < member.incarnation || !member.is_present() {
            return Ok(());
        }
        let member_said_bye = member.said_bye;
        let message = Dead { incarnation, node: name.to_string(), from: from.to_string() };
        self.broadcast_member(name, &Message::Dead(message));
        // Docker's older memberlist leaves without signing its own death.
        let left = from == name || member_said_bye;
        let state = if left { NodeState::Left } else { NodeState::Dead };
        self.gone(name, incarnation, state);
        Ok(())
    }

    /// `name` is dead or has left; news of it are already on their way.
    fn gone(&mut self, name: &NodeName, incarnation: u32, state: NodeState) {
        let was_seen = self.is_owner_seen(name);
        let now = self.now;
        let Some(member) = self.members.get_mut(name) else { return };
        let was_present = member.is_present();
        let said_bye = member.said_bye;
        member.incarnation = incarnation;
        member.state = state;
        member.since = now;
        member.suspicion = None;
        member.retry_at = now + self.config.timing.reconnect_interval;
        let address = member.address;
        let name = name.clone();
        self.due_syncs.remove(&name);
        self.sync_is_over(&name);
        if state == NodeState::Left {
            self.purge(&name, was_seen);
            if !said_bye {
                self.event(Event::NodeLeft { name, address, since: now });
            }
        } else {
            self.seen_changed(&name, was_seen);
            if was_present && !said_bye {
                self.event(Event::NodeDown { name, address, since: now });
            }
        }
    }

    /// Suspicions that nobody denied in time become deaths.
    pub(super) fn end_suspicions(&mut self) {
        let due: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| m.suspicion.as_ref().is_some_and(|s| s.deadline() <= self.now))
            .map(|(name, member)| (name.clone(), member.incarnation))
            .collect();
        for (name, incarnation) in due {
            let from = self.config.name.clone();
            if let Err(cause) = self.dead(&name, incarnation, &from) {
                self.counters.drop(cause);
            }
        }
    }

    pub(super) fn next_suspicion(&self) -> Option<Moment> {
        self.members.values().filter_map(|m| Some(m.suspicion.as_ref()?.deadline())).min()
    }

    /// This node stood still for `by`: its suspects had no chance to be heard.
    pub(super) fn postpone_suspicions(&mut self, by: Duration) {
        for member in self.members.values_mut() {
            if let Some(suspicion) = &mut member.suspicion {
                suspicion.postpone(by);
            }
        }
    }

    /// Whether there is room for one more member, forgetting the longest dead if need be.
    fn make_room(&mut self) -> bool {
        if self.members.len() < self.config.limits.members {
            return true;
        }
        let gone = self.members.iter().filter(|(_, member)| !member.is_present());
        let Some(oldest) = gone.min_by_key(|(_, m)| m.since).map(|(name, _)| name.clone()) else {
            return false;
        };
        self.forget(&oldest);
        true
    }

    /// Removes every trace of a node that is gone.
    pub(super) fn forget(&mut self, name: &NodeName) {
        self.purge(name, false);
        if let Some(member) = self.members.remove(name) {
            self.forget_address(member.address, name);
        }
    }

    fn forget_address(&mut self, address: SocketAddr, name: &NodeName) {
        if let Some(names) = self.addresses.get_mut(&address) {
            names.remove(name);
            if names.is_empty() {
                self.addresses.remove(&address);
            }
        }
    }

    /// A member answered a probe. `directly`: not by way of others.
    pub(super) fn member_answered(&mut self, name: &NodeName, directly: bool) {
        let was_seen = self.is_owner_seen(name);
        let since = self.now;
        let Some(member) = self.members.get_mut(name) else { return };
        let was_reachable = member.is_reachable();
        member.detours = if directly { 0 } else { member.detours.saturating_add(1) };
        let (address, reachable) = (member.address, member.is_reachable());
        if !directly && reachable {
            // Asked again at once: whether it was one packet is to be known soon.
            self.probe_ring.push(name.clone());
        }
        if reachable == was_reachable {
            return;
        }
        self.seen_changed(name, was_seen);
        let name = name.clone();
        self.event(if reachable {
            Event::NodeReachable { name, address, since }
        } else {
            Event::NodeUnreachable { name, address, since }
        });
    }

    pub(super) fn broadcast_member(&mut self, name: &NodeName, message: &Message) {
        self.news.push(News::Member(name.clone()), message.encode());
        self.news_soon();
    }
}
