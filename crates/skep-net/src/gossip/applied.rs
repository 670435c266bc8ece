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
use crate::model::RemoteChange;
use crate::world::World;
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

/// The endpoints that changes are about. Whatever says how an endpoint is reached belongs to it: a record in the load
/// balancers without the way to its node serves nobody.
pub fn places(changes: &[RemoteChange], world: &World) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    for change in changes {
        match change {
            RemoteChange::Endpoint(network, endpoint, _)
            | RemoteChange::Peer(network, endpoint, _)
            | RemoteChange::Silent(network, endpoint) => {
                places.insert((network.clone(), endpoint.clone()));
            }
            RemoteChange::ForgetNetwork(network) => {
                let known = world.running.remote_endpoints.keys();
                places.extend(known.filter(|(of, _)| of == network).cloned());
            }
        }
    }
    places
}

/// Whether this node wants an endpoint of others to get new connections (`serves`), with all that this takes; or none.
pub fn is_wanted(world: &World, place: &Place, serves: bool) -> bool {
    let enabled = world.running.remote_endpoints.get(place).is_some_and(|record| !record.disabled);
    let reached = world.running.remote_peers.contains_key(place);
    if serves { enabled && reached } else { !enabled }
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
    pub fn begin(&mut self, places: &BTreeSet<Place>) {
        for place in places {
            *self.at_work.entry(place.clone()).or_default() += 1;
        }
    }

    /// They are in force.
    pub fn end(&mut self, places: &BTreeSet<Place>) {
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

    /// Takes the questions out that can be answered. `wanted`: see [`is_wanted`]; what this node wants and is not at
    /// work on is in force.
    pub fn answers(&mut self, wanted: impl Fn(&Place, bool) -> bool) -> Vec<(NodeName, u64)> {
        let mut answers = Vec::new();
        let at_work = &self.at_work;
        self.open.retain(|who, (question, _)| {
            let place = question.place();
            let done = !at_work.contains_key(&place) && wanted(&place, question.serves);
            if done {
                answers.push(who.clone());
            }
            !done
        });
        answers
    }
}

/// What the others have said.
#[derive(Debug)]
pub struct Others {
    /// Who answers, by network.
    answering: BTreeMap<NetworkId, BTreeSet<NodeName>>,
    /// Questions of this node, by number.
    asked: BTreeMap<u64, Asked>,
    /// The newest question's number.
    number: u64,
}

/// A question of this node.
#[derive(Debug)]
struct Asked {
    network: NetworkId,
    /// Who has yet to answer.
    missing: BTreeSet<NodeName>,
}

impl Others {
    /// Knows nobody. `life` is chance, and the upper half of the questions' numbers: an answer to a question of an earlier
    /// life of this node, which may still be under way, is then an answer to none of this one.
    pub fn new(life: u32) -> Self {
        Self {
            answering: BTreeMap::new(),
            asked: BTreeMap::new(),
            number: u64::from(life) << u32::BITS,
        }
    }

    /// Takes an entry over; `None` when it is gone, with its node or without: who is not in a network any more sends
    /// nobody there, and is not waited for. Whether it could be read.
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
                for asked in self.about(network) {
                    asked.missing.remove(node);
                }
                true
            }
        }
    }

    /// Forgets who is in a network that this node is no longer in, and waits for nobody there.
    pub fn forget(&mut self, network: &NetworkId) {
        self.answering.remove(network);
        for asked in self.about(network) {
            asked.missing.clear();
        }
    }

    /// The questions about a network.
    fn about<'a>(&'a mut self, network: &'a NetworkId) -> impl Iterator<Item = &'a mut Asked> {
        self.asked.values_mut().filter(move |asked| asked.network == *network)
    }

    /// Begins a question to all who answer in a network. Its number, and whom to ask.
    pub fn begin(&mut self, network: &NetworkId) -> (u64, BTreeSet<NodeName>) {
        self.number += 1;
        let nodes = self.answering.get(network).cloned().unwrap_or_default();
        let asked = Asked { network: network.clone(), missing: nodes.clone() };
        self.asked.insert(self.number, asked);
        (self.number, nodes)
    }

    /// A node answered.
    pub fn answered(&mut self, node: &NodeName, number: u64) {
        if let Some(asked) = self.asked.get_mut(&number) {
            asked.missing.remove(node);
        }
    }

    /// Nodes that have yet to answer.
    pub fn missing(&self, number: u64) -> impl Iterator<Item = &NodeName> {
        self.asked.get(&number).into_iter().flat_map(|asked| &asked.missing)
    }

    /// Answers to a question are not waited for any more.
    pub fn end(&mut self, number: u64) {
        self.asked.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EndpointRecord, PeerRecord};

    #[test]
    fn a_node_is_waited_for_until_it_answers_or_goes() {
        let (a, b) = (NetworkId::new("a"), NetworkId::new("b"));
        let node = |name: &str| NodeName::from(name);
        let mut others = Others::new(7);
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
        // Who leaves another network is still in this one, and the other way round.
        others.take(&b, &node("z"), None);
        assert_eq!(others.missing(number).count(), 2);
        others.take(&b, &node("z"), Some(VERSION));
        others.take(&a, &node("z"), None);
        assert_eq!(others.missing(number).collect::<Vec<_>>(), [&node("y")]);
        let (elsewhere, _) = others.begin(&b);
        others.forget(&a);
        assert_eq!(others.missing(number).count(), 0);
        assert_eq!(others.missing(elsewhere).count(), 3);
        others.end(elsewhere);
        assert_eq!(others.missing(elsewhere).count(), 0);
    }

    #[test]
    fn an_answer_to_an_earlier_life_counts_for_nothing() {
        let (network, node) = (NetworkId::new("a"), NodeName::from("x"));
        let mut numbers = BTreeSet::new();
        for life in [0, 1, u32::MAX] {
            let mut others = Others::new(life);
            others.take(&network, &node, Some(VERSION));
            for _ in 0..100 {
                let (number, _) = others.begin(&network);
                for earlier in &numbers {
                    others.answered(&node, *earlier);
                }
                assert_eq!(others.missing(number).count(), 1, "of life {life}");
                assert!(numbers.insert(number));
            }
        }
    }

    #[test]
    fn what_an_endpoint_takes_is_what_is_confirmed() {
        let network = NetworkId::new("a");
        let key = |endpoint: &str| (network.clone(), EndpointId::new(endpoint));
        let record = |disabled| {
            let endpoint_ip = [10, 0, 1, 5].into();
            EndpointRecord {
                name: "web.1".to_owned(),
                service_name: "web".to_owned(),
                service_id: "svc".to_owned(),
                vip: None,
                endpoint_ip,
                ingress_ports: Vec::new(),
                aliases: Vec::new(),
                task_aliases: Vec::new(),
                disabled,
            }
        };
        let peer = PeerRecord {
            endpoint_ip: "10.0.1.5/24".parse().unwrap(),
            endpoint_mac: "02:42:0a:00:01:05".parse().unwrap(),
            tunnel_endpoint_ip: "192.0.2.1".parse().unwrap(),
        };
        let place = key("ep");
        let endpoint = |record| RemoteChange::Endpoint(place.0.clone(), place.1.clone(), record);
        let way = |record| RemoteChange::Peer(place.0.clone(), place.1.clone(), record);
        let silent = RemoteChange::Silent(place.0.clone(), place.1.clone());
        let gone = RemoteChange::ForgetNetwork(network.clone());
        // Each change, one after the other, and what can be said afterwards: that it serves, that it does not.
        let steps = [
            (endpoint(Some(record(false))), (false, false)),
            (way(Some(peer.clone())), (true, false)),
            (endpoint(Some(record(true))), (false, true)),
            (endpoint(Some(record(false))), (true, false)),
            (endpoint(None), (false, true)),
            (endpoint(Some(record(false))), (true, false)),
            (silent, (false, true)),
            (endpoint(Some(record(false))), (true, false)),
            (gone, (false, true)),
            (way(Some(peer)), (false, true)),
            (way(None), (false, true)),
        ];
        let mut world = crate::world::tests::world();
        world.running.remote_endpoints.insert((NetworkId::new("b"), place.1.clone()), record(true));
        for (change, said) in steps {
            let changes = vec![change];
            let places = places(&changes, &world);
            assert_eq!(places, [place.clone()].into(), "{changes:?}");
            let mut own = Own::default();
            own.begin(&places);
            for serves in [true, false] {
                let question = Question::encode(&place.0, &place.1, serves);
                own.ask(NodeName::from("asker"), u64::from(serves), &question, Instant::now());
            }
            world.apply_remote(changes.clone());
            // Before the kernel has it, nothing is said.
            assert!(own.answers(|place, serves| is_wanted(&world, place, serves)).is_empty());
            own.end(&places);
            let answers = own.answers(|place, serves| is_wanted(&world, place, serves));
            let answers: Vec<u64> = answers.into_iter().map(|(_, number)| number).collect();
            assert_eq!((answers.contains(&1), answers.contains(&0)), said, "{changes:?}");
        }
    }

    #[test]
    fn a_question_is_answered_when_the_kernel_has_it() {
        let place = (NetworkId::new("a"), EndpointId::new("ep"));
        let places = BTreeSet::from([place.clone()]);
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
        assert!(own.answers(|_, serves| !serves).is_empty());
        own.begin(&places);
        assert!(own.answers(|_, serves| serves).is_empty(), "not in the kernel yet");
        own.begin(&places);
        own.end(&places);
        assert!(own.answers(|_, serves| serves).is_empty(), "half of it");
        own.end(&places);
        assert_eq!(own.answers(|_, serves| serves), [(me.clone(), 1)]);
        assert!(own.answers(|_, serves| serves).is_empty(), "once for each time it is asked");
        // One that it never heard of gets no connections.
        ask(&mut own, 2, false);
        ask(&mut own, 3, true);
        assert_eq!(own.answers(|_, serves| !serves), [(me.clone(), 2)]);
        assert!(!own.ask(me, 4, &[0xff], now));
    }
}
