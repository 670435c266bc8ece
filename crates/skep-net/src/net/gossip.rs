//! The conversation with the other nodes, as the handle offers it.

use super::talk::Talk;
use super::{Inner, Net};
use crate::error::Result;
use crate::gossip::applied::Question;
use crate::gossip::{GossipSettings, Others};
use crate::ids::{EndpointId, NetworkId, SandboxId};
use crate::state::lock;
use crate::world::World;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::Duration;

/// How long a change of rotation is waited for. A node that is cut off is given up by gossip
/// sooner; this is for one that answers and does not do as it was told.
const SETTLED: Duration = Duration::from_secs(5);

/// A handle that keeps nothing alive.
#[derive(Clone)]
pub struct WeakNet(Weak<Inner>);

impl WeakNet {
    pub fn upgrade(&self) -> Option<Net> {
        self.0.upgrade().map(|inner| Net { inner })
    }
}

/// A question whose answers are waited for; not any more when this is dropped.
struct Asked<'a> {
    net: &'a Net,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.net.acknowledgements(|others| others.end(self.number));
    }
}

impl Net {
    /// Starts gossip with the other nodes of the swarm, or changes its keys and peers. Fails when
    /// port 7946 is taken or a key is of no use; what ran before then goes on.
    pub async fn set_gossip(&self, settings: GossipSettings) -> Result<()> {
        let mut slot = self.inner.talk.lock().await;
        match slot.as_mut() {
            Some(talk) if talk.takes(&settings) => talk.update(settings),
            _ => {
                // The port must be free before it can be bound again.
                if let Some(talk) = slot.take() {
                    talk.leave().await;
                }
                *slot = Some(Talk::start(self, settings).await?);
                Ok(())
            }
        }
    }

    /// Says good-bye to the other nodes.
    pub async fn stop_gossip(&self) {
        if let Some(talk) = self.inner.talk.lock().await.take() {
            talk.leave().await;
        }
        self.acknowledgements(|others| *others = Others::default());
        lock(&self.shared().nodes).clear();
    }

    /// Waits until every node that takes part in a sandbox's networks has said that it sends new
    /// connections there (`serves`), or none. Bounded: the log names who did not say so in time.
    pub(super) async fn settled(&self, id: &SandboxId, serves: bool) {
        let wanted: Vec<(NetworkId, EndpointId)> = self.shared().read(|world| {
            let endpoints = world.sandbox(id).into_iter().flat_map(|s| &s.endpoints);
            let of_swarm = endpoints.filter(|e| world.running.overlays.contains_key(&e.network));
            of_swarm.map(|e| (e.network.clone(), e.id.clone())).collect()
        });
        let mut asked = Vec::new();
        if let Some(talk) = self.inner.talk.lock().await.as_ref() {
            for (network, endpoint) in wanted {
                let mut begun = (0, BTreeSet::new());
                self.acknowledgements(|others| begun = others.begin(&network));
                let (number, nodes) = begun;
                let question = Question::encode(&network, &endpoint, serves);
                talk.ask(nodes, number, &question, SETTLED);
                asked.push(Asked { net: self, number });
            }
        }
        let mut others = self.inner.others.subscribe();
        let done = |others: &Others| {
            asked.iter().all(|asked| others.missing(asked.number).next().is_none())
        };
        if tokio::time::timeout(SETTLED, others.wait_for(done)).await.is_err() {
            let others = others.borrow();
            let silent: BTreeSet<String> = asked
                .iter()
                .flat_map(|asked| others.missing(asked.number))
                .map(ToString::to_string)
                .collect();
            tracing::warn!(sandbox = %id, serves, nodes = ?silent, "nodes did not confirm a change of rotation in time");
        }
    }

    /// Changes what others are known to have done.
    pub(super) fn acknowledgements(&self, change: impl FnOnce(&mut Others)) {
        self.inner.others.send_modify(change);
    }

    /// Takes note of a node's gossip name.
    pub(super) fn node_up(&self, address: IpAddr, name: &str) {
        lock(&self.shared().nodes).insert(address, name.to_owned());
    }

    /// Forgets it, unless another life of the node is at the address already.
    pub(super) fn node_gone(&self, address: IpAddr, name: &str) {
        let mut nodes = lock(&self.shared().nodes);
        if nodes.get(&address).is_some_and(|known| known == name) {
            nodes.remove(&address);
        }
    }

    pub(super) fn read_world<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        self.shared().read(read)
    }

    pub(super) fn downgrade(&self) -> WeakNet {
        WeakNet(std::sync::Arc::downgrade(&self.inner))
    }
}
