//! Who has done what an endpoint's owner said.
//!
//! An owner asks the other nodes whether they have put an endpoint into, or taken it out of, their load balancers and
//! names, and each answers once its kernel has it. So the owner knows when nobody sends new connections any more, and
//! gives the stop signal then. A question and its answer are two small packets between two nodes, numbered by the owner
//! and repeated until they are heard: what all of a cluster's nodes would have to say of each other's endpoints in tables
//! grows with the square of their number, and all of it would go to everybody.
//!
//! Who takes part says so in a table of its own, with one entry per network that never changes. Docker's nodes pass that on,
//! read nothing from it and are not asked; nobody waits for them.

use crate::ids::{EndpointId, NetworkId};
use skep_gossip::records::Record as _;
use skep_gossip::{EntryId, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The table of those who answer. An earlier one, `skep_applied_table`, held lists of endpoints: nodes that have that
/// neither ask nor are asked.
pub const TABLE: &str = "skep_answering_table";
/// What an entry says: the version of the questions that are understood.
const VERSION: &[u8] = &[1];
/// How long a question is kept open: it is asked again before that, if the answer is still wanted.
const OPEN: Duration = Duration::from_secs(2);
/// Most open questions. More are not even read: they are asked again.
const MOST: usize = 4096;

/// What is asked: whether an endpoint gets new connections, or none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Question {
    /// The network's id.
    #[prost(string, tag = "1")]
    network: String,
    /// The endpoint's id.
    #[prost(string, tag = "2")]
    endpoint: String,
    /// Whether it is to get new connections.
    #[prost(bool, tag = "3")]
    serves: bool,
}

impl Question {
    /// As it travels.
    pub fn encode(network: &NetworkId, endpoint: &EndpointId, serves: bool) -> Vec<u8> {
        let (network, endpoint) = (network.as_str().to_owned(), endpoint.as_str().to_owned());
        Self { network, endpoint, serves }.encode_to_vec()
    }

    fn place(&self) -> Place {
        (NetworkId::new(self.network.as_str()), EndpointId::new(self.endpoint.as_str()))
    }
}

type Place = (NetworkId, EndpointId);

/// What to say in the networks this node is in: that it answers.
pub fn entries(node: &NodeName, networks: &BTreeSet<NetworkId>) -> BTreeMap<EntryId, Vec<u8>> {
    let entry = |n: &NetworkId| (EntryId::new(n.as_str(), TABLE, node.as_str()), VERSION.to_vec());
    networks.iter().map(entry).collect()
}

/// What this node is about to do, and who waits for it.
#[derive(Debug, Default)]
pub struct Own {
    /// Endpoints whose change is on its way into the kernel, and how many times.
    at_work: BTreeMap<Place, usize>,
    open: BTreeMap<(NodeName, u64), (Question, Instant)>,
}

impl Own {
    /// Changes of these endpoints are on their way into the kernel.
    pub fn begin(&mut self, places: &[Place]) {
        for place in places {
            *self.at_work.entry(place.clone()).or_default() += 1;
        }
    }

    /// They are in force.
    pub fn end(&mut self, places: &[Place]) {
        for place in places {
            if let Some(count) = self.at_work.get_mut(place) {
                *count -= 1;
                if *count == 0 {
                    self.at_work.remove(place);
                }
            }
        }
    }

    /// Takes a question in. Whether it could be read.
    pub fn ask(&mut self, from: NodeName, number: u64, question: &[u8], now: Instant) -> bool {
        let Ok(question) = Question::decode(question) else { return false };
        self.open.retain(|_, (_, until)| *until > now);
        if self.open.len() < MOST {
            self.open.insert((from, number), (question, now + OPEN));
        }
        true
    }

    /// Takes the questions out that can be answered. `serves`: whether an endpoint of others gets new connections by
    /// what this node wants; what it wants and is not at work on is in force.
    pub fn answers(&mut self, serves: impl Fn(&Place) -> bool) -> Vec<(NodeName, u64)> {
        let mut answers = Vec::new();
        let at_work = &self.at_work;
        self.open.retain(|who, (question, _)| {
            let place = question.place();
            let done = !at_work.contains_key(&place) && serves(&place) == question.serves;
            if done {
                answers.push(who.clone());
            }
            !done
        });
        answers
    }
}

/// What the others have said.
#[derive(Debug, Default)]
pub struct Others {
    /// Who answers, by network.
    answering: BTreeMap<NetworkId, BTreeSet<NodeName>>,
    /// Questions of this node, and who has yet to answer each.
    asked: BTreeMap<u64, BTreeSet<NodeName>>,
    /// The newest question's number.
    number: u64,
}

impl Others {
    /// Takes an entry over; `None` when it is gone, with its node or without: nobody waits for that node then. Whether it
    /// could be read.
    pub fn take(&mut self, network: &NetworkId, node: &NodeName, value: Option<&[u8]>) -> bool {
        match value {
            Some(VERSION) => {
                self.answering.entry(network.clone()).or_default().insert(node.clone());
                true
            }
            Some(_) => false,
            None => {
                if let Some(nodes) = self.answering.get_mut(network) {
                    nodes.remove(node);
                }
                if !self.answering.values().any(|nodes| nodes.contains(node)) {
                    for nodes in self.asked.values_mut() {
                        nodes.remove(node);
                    }
                }
                true
            }
        }
    }

    /// Forgets who is in a network that this node is no longer in.
    pub fn forget(&mut self, network: &NetworkId) {
        self.answering.remove(network);
    }

    /// Begins a question to all who answer in a network. Its number, and whom to ask.
    pub fn begin(&mut self, network: &NetworkId) -> (u64, BTreeSet<NodeName>) {
        self.number += 1;
        let nodes = self.answering.get(network).cloned().unwrap_or_default();
        self.asked.insert(self.number, nodes.clone());
        (self.number, nodes)
    }

    /// A node answered.
    pub fn answered(&mut self, node: &NodeName, number: u64) {
        if let Some(nodes) = self.asked.get_mut(&number) {
            nodes.remove(node);
        }
    }

    /// Nodes that have yet to answer.
    pub fn missing(&self, number: u64) -> impl Iterator<Item = &NodeName> {
        self.asked.get(&number).into_iter().flatten()
    }

    /// Answers to a question are not waited for any more.
    pub fn end(&mut self, number: u64) {
        self.asked.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_waited_for_until_it_answers_or_goes() {
        let (a, b) = (NetworkId::new("a"), NetworkId::new("b"));
        let node = |name: &str| NodeName::from(name);
        let mut others = Others::default();
        // Nobody in the network: nobody to wait for.
        let (number, nodes) = others.begin(&a);
        assert!(nodes.is_empty() && others.missing(number).next().is_none());
        for name in ["x", "y", "z"] {
            let entries = entries(&node(name), &[a.clone(), b.clone()].into());
            for (id, value) in entries {
                let network = id.network.clone();
                assert!(others.take(&network, &node(id.key.as_str()), Some(&value)));
            }
        }
        // Of another version, and so not asked.
        assert!(!others.take(&a, &node("old"), Some(&[0x0a, 0x02])));
        let (number, nodes) = others.begin(&a);
        assert_eq!(nodes, [node("x"), node("y"), node("z")].into());
        others.answered(&node("x"), number);
        others.answered(&node("y"), number + 1);
        assert_eq!(others.missing(number).collect::<Vec<_>>(), [&node("y"), &node("z")]);
        // One that is still in another network has not gone.
        others.take(&b, &node("z"), None);
        assert_eq!(others.missing(number).count(), 2);
        others.take(&a, &node("z"), None);
        assert_eq!(others.missing(number).collect::<Vec<_>>(), [&node("y")]);
        others.end(number);
        assert_eq!(others.missing(number).count(), 0);
    }

    #[test]
    fn a_question_is_answered_when_the_kernel_has_it() {
        let place = (NetworkId::new("a"), EndpointId::new("ep"));
        let me = NodeName::from("asker");
        let now = Instant::now();
        let mut own = Own::default();
        let ask = |own: &mut Own, number, serves| {
            assert!(own.ask(
                me.clone(),
                number,
                &Question::encode(&place.0, &place.1, serves),
                now
            ));
        };
        // Asked before it is even known.
        ask(&mut own, 1, true);
        assert!(own.answers(|_| false).is_empty());
        own.begin(std::slice::from_ref(&place));
        assert!(own.answers(|_| true).is_empty(), "not in the kernel yet");
        own.begin(std::slice::from_ref(&place));
        own.end(std::slice::from_ref(&place));
        assert!(own.answers(|_| true).is_empty(), "half of it");
        own.end(std::slice::from_ref(&place));
        assert_eq!(own.answers(|_| true), [(me.clone(), 1)]);
        assert!(own.answers(|_| true).is_empty(), "once for each time it is asked");
        // One that it never heard of gets no connections.
        ask(&mut own, 2, false);
        ask(&mut own, 3, true);
        assert_eq!(own.answers(|_| false), [(me.clone(), 2)]);
        assert!(!own.ask(me, 4, &[0xff], now));
    }
}
