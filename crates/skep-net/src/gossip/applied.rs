//! Who has done what an endpoint's owner said.
//!
//! Each skep node keeps one entry per network in a table of its own: which endpoints of others it
//! has lately put into, or taken out of, its load balancers and names. So an owner knows when nobody
//! sends new connections any more, and gives the stop signal then. Docker's nodes pass the table on
//! and read nothing from it; nobody waits for them.

use crate::ids::{EndpointId, NetworkId};
use skep_gossip::records::Record as _;
use skep_gossip::{EntryId, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The table.
pub const TABLE: &str = "skep_applied_table";
/// For how long a change is repeated: longer than anybody waits for it.
const KEPT: Duration = Duration::from_secs(60);

/// The value of an entry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Report {
    #[prost(message, repeated, tag = "1")]
    done: Vec<Done>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Done {
    /// The endpoint's id.
    #[prost(string, tag = "1")]
    endpoint: String,
    /// Whether it gets new connections.
    #[prost(bool, tag = "2")]
    serves: bool,
}

/// What this node has done lately.
#[derive(Debug, Default)]
pub struct Own {
    done: BTreeMap<(NetworkId, EndpointId), (bool, Instant)>,
}

impl Own {
    /// Takes note that the kernel has it: an endpoint gets new connections, or none.
    pub fn note(&mut self, network: NetworkId, endpoint: EndpointId, serves: bool, now: Instant) {
        self.done.insert((network, endpoint), (serves, now));
    }

    /// What to say in the networks this node is in; each is told that it is listened to, if
    /// nothing else. What is old is left out, and so forgotten.
    pub fn entries(
        &mut self,
        node: &NodeName,
        networks: &BTreeSet<NetworkId>,
        now: Instant,
    ) -> BTreeMap<EntryId, Vec<u8>> {
        self.done.retain(|(network, _), (_, since)| {
            networks.contains(network) && now.duration_since(*since) < KEPT
        });
        let report = |network: &NetworkId| Report {
            done: self
                .done
                .iter()
                .filter(|((of, _), _)| of == network)
                .map(|((_, endpoint), (serves, _))| Done {
                    endpoint: endpoint.as_str().to_owned(),
                    serves: *serves,
                })
                .collect(),
        };
        networks
            .iter()
            .map(|network| {
                let id = EntryId::new(network.as_str(), TABLE, node.as_str());
                (id, report(network).encode_to_vec())
            })
            .collect()
    }
}

/// What the others have said they did.
#[derive(Debug, Default)]
pub struct Others {
    /// By network and node: the endpoints and whether they serve.
    said: BTreeMap<(NetworkId, NodeName), BTreeMap<EndpointId, bool>>,
}

impl Others {
    /// Takes an entry over; `None` when it is gone, with its node or without. Whether it could be
    /// read.
    pub fn take(&mut self, network: NetworkId, node: NodeName, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            self.said.remove(&(network, node));
            return true;
        };
        let Ok(report) = Report::decode(value) else { return false };
        let done = report.done.into_iter().map(|d| (EndpointId::new(d.endpoint), d.serves));
        self.said.insert((network, node), done.collect());
        true
    }

    /// Forgets what was said in a network that this node is no longer in.
    pub fn forget(&mut self, network: &NetworkId) {
        self.said.retain(|(of, _), _| of != network);
    }

    /// Nodes that are in a network and have not yet done this.
    pub fn missing<'a>(
        &'a self,
        network: &'a NetworkId,
        endpoint: &'a EndpointId,
        serves: bool,
    ) -> impl Iterator<Item = &'a NodeName> {
        self.said
            .iter()
            .filter(move |((of, _), done)| of == network && done.get(endpoint) != Some(&serves))
            .map(|((_, node), _)| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str) -> NetworkId {
        NetworkId::new(name)
    }

    #[test]
    fn a_node_is_waited_for_until_it_says_what_is_wanted() {
        let (a, b) = (network("a"), network("b"));
        let endpoint = EndpointId::new("ep");
        let me = NodeName::from("0123456789ab");
        let now = Instant::now();
        let mut own = Own::default();
        let mut others = Others::default();
        let names = |others: &Others, serves| {
            others.missing(&network("a"), &EndpointId::new("ep"), serves).count()
        };
        // Nobody in the network: nobody to wait for.
        assert_eq!(names(&others, false), 0);
        let tell = |own: &mut Own, others: &mut Others, now| {
            for (id, value) in own.entries(&me, &[a.clone(), b.clone()].into(), now) {
                let of = NetworkId::new(id.network.as_str());
                assert!(others.take(of, NodeName::from(id.key.as_str()), Some(&value)));
            }
        };
        tell(&mut own, &mut others, now);
        assert_eq!((names(&others, true), names(&others, false)), (1, 1));
        own.note(a.clone(), endpoint.clone(), true, now);
        tell(&mut own, &mut others, now);
        assert_eq!((names(&others, true), names(&others, false)), (0, 1));
        own.note(a.clone(), endpoint.clone(), false, now);
        tell(&mut own, &mut others, now);
        assert_eq!((names(&others, true), names(&others, false)), (1, 0));
        // Old news are not repeated for ever.
        tell(&mut own, &mut others, now + KEPT);
        assert_eq!(names(&others, false), 1);
        // A node that is gone is not waited for.
        assert!(others.take(a.clone(), me.clone(), None));
        assert_eq!(names(&others, false), 0);
        assert!(!others.take(a.clone(), me.clone(), Some(&[0xff])));
    }
}
