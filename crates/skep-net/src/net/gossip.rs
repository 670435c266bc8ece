//! The conversation with the other nodes, as the handle offers it.

use super::talk::Talk;
use super::{Inner, Net};
use crate::error::{NetError, Result};
use crate::gossip::applied::Question;
use crate::gossip::{GossipSettings, Others, PORT};
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

fn why_mute(error: &NetError) -> String {
    let cause = std::error::Error::source(error).map_or_else(String::new, |e| format!(": {e}"));
    format!(
        "{error}{cause}; this host does not hear where the swarm's tasks are. If another program has port {PORT}, end it: \
         it is tried again"
    )
}

impl Net {
    /// Starts gossip with the other nodes of the swarm, or changes its keys and peers. Fails when
    /// a key is of no use, and what ran before then goes on; or when port 7946 is taken, and none goes on then.
    pub async fn set_gossip(&self, settings: GossipSettings) -> Result<()> {
        settings.keyring()?;
        let mut slot = self.inner.talk.lock().await;
        match slot.as_mut() {
            Some(talk) if talk.takes(&settings) => talk.update(settings),
            _ => {
                // The port must be free before it can be bound again.
                self.end_gossip(&mut slot).await;
                let started = Talk::start(self, settings).await;
                *lock(&self.inner.mute) = started.as_ref().err().map(why_mute);
                *slot = Some(started?);
                Ok(())
            }
        }
    }

    /// Why this host cannot talk to the others of its swarm, in a sentence for its user; `None` while it can, or is in
    /// no swarm.
    pub fn gossip_trouble(&self) -> Option<String> {
        lock(&self.inner.mute).clone()
    }

    /// Says good-bye to the other nodes.
    pub async fn stop_gossip(&self) {
        let mut slot = self.inner.talk.lock().await;
        self.end_gossip(&mut slot).await;
        *lock(&self.inner.mute) = None;
    }

    /// Ends a conversation, with all that belongs to it.
    async fn end_gossip(&self, slot: &mut Option<Talk>) {
        if let Some(talk) = slot.take() {
            talk.leave().await;
        }
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
        let (asked, mut others) = match self.inner.talk.lock().await.as_ref() {
            Some(talk) => {
                let ask = |(network, endpoint): (NetworkId, EndpointId)| {
                    talk.ask(&network, &Question::encode(&network, &endpoint, serves), SETTLED)
                };
                (wanted.into_iter().map(ask).collect::<Vec<_>>(), talk.others())
            }
            None => return,
        };
        let done =
            |others: &Others| asked.iter().all(|asked| asked.missing(others).next().is_none());
        // It fails when the conversation ends: then there is nobody to wait for.
        if tokio::time::timeout(SETTLED, others.wait_for(done)).await.is_err() {
            let others = others.borrow();
            let silent: BTreeSet<String> = asked
                .iter()
                .flat_map(|asked| asked.missing(&others))
                .map(ToString::to_string)
                .collect();
            tracing::warn!(sandbox = %id, serves, nodes = ?silent, "nodes did not confirm a change of rotation in time");
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetConfig;
    use crate::gossip::{GossipKey, applied};
    use skep_gossip::NodeName;
    use std::process::Command;

    /// What the others said belongs to the life of the conversation in which they said it.
    #[test]
    fn another_identity_knows_nobody_of_the_one_before() {
        let name = "net::gossip::tests::another_identity_knows_nobody_of_the_one_before";
        if !skep_sys::testing::is_inside() {
            let mut wrapper = Command::new("unshare");
            wrapper.args(["--net", "--mount", "--", "sh", "-c"]);
            wrapper.args(["ip link set lo up && exec \"$0\" \"$@\""]);
            return skep_sys::testing::run_inside(name, &mut wrapper);
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let temp = tempfile::tempdir().unwrap();
            let config = NetConfig::new(temp.path().join("exec"), temp.path().join("data"));
            let net = Net::start(config).await.unwrap();
            let local = IpAddr::from([127, 0, 0, 1]);
            let settings = |key: u8| GossipSettings {
                node_name: GossipSettings::new_name(),
                listen: local,
                advertise: local,
                keys: vec![GossipKey { bytes: vec![key; 16], lamport_time: 1 }],
                peers: vec![local],
            };
            let network = NetworkId::new("n");
            net.set_gossip(settings(1)).await.unwrap();
            net.node_up([192, 0, 2, 2].into(), "other");
            let (asked, mut before) = {
                let slot = net.inner.talk.lock().await;
                let talk = slot.as_ref().unwrap();
                let other = NodeName::from("other");
                for (id, value) in applied::entries(&other, &[network.clone()].into()) {
                    talk.hear_of(|others| others.take(&id.network, &other, Some(&value)));
                }
                (talk.ask(&network, &[], SETTLED), talk.others())
            };
            assert_eq!(asked.missing(&before.borrow()).count(), 1);

            // A key of no use ends nothing.
            let mut useless = settings(1);
            useless.keys[0].bytes.clear();
            net.set_gossip(useless).await.unwrap_err();
            assert!(before.has_changed().is_ok());

            // A port that another has is told until it is free.
            assert_eq!(net.gossip_trouble(), None);
            net.stop_gossip().await;
            let other = std::net::TcpListener::bind((local, PORT)).unwrap();
            net.set_gossip(settings(2)).await.unwrap_err();
            let told = net.gossip_trouble().unwrap();
            assert!(told.contains("127.0.0.1:7946") && told.contains("in use"), "{told}");
            net.stop_gossip().await;
            assert_eq!(net.gossip_trouble(), None, "it is in no swarm any more");
            net.set_gossip(settings(2)).await.unwrap_err();
            drop(other);

            net.set_gossip(settings(2)).await.unwrap();
            assert_eq!(net.gossip_trouble(), None);
            // Who waits for the one before has nobody to wait for.
            before.wait_for(|_| false).await.unwrap_err();
            assert!(lock(&net.shared().nodes).is_empty());
            let slot = net.inner.talk.lock().await;
            let talk = slot.as_ref().unwrap();
            let again = talk.ask(&network, &[], SETTLED);
            assert_eq!(again.missing(&talk.others().borrow()).count(), 0);
            drop(slot);
            net.shutdown().await;
        });
    }
}
