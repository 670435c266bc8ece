//! The swarm's side of a host's network.

use super::{Net, first_error, new_id, now_unix_nanos};
use crate::error::Result;
use crate::ids::{NetworkId, SandboxId};
use crate::model::{Cluster, LocalRecords, OverlayNetwork, RemoteChange};
use crate::plan::NsName;
use crate::world::World;
use std::collections::BTreeSet;
use tokio::sync::watch;

impl Net {
    /// Joins (`Some`) or leaves (`None`) a swarm. Leaving forgets all overlays and
    /// fails while a sandbox is still on one.
    pub async fn set_cluster(&self, cluster: Option<Cluster>) -> Result<()> {
        let mut names = self.shared().read(of_swarm);
        self.shared()
            .change(|state| state.world.set_cluster(cluster, now_unix_nanos(), &mut new_id))?;
        // Reads the host again, for the underlay's MTU.
        self.reconcile().await;
        names.extend(self.shared().read(of_swarm));
        self.converge(names).await
    }

    /// Adds or updates an overlay network. It exists in the kernel only while
    /// something on this host uses it; the ingress network always does.
    pub async fn put_overlay(&self, network: OverlayNetwork) -> Result<()> {
        let id = network.id.clone();
        self.shared().change(|state| state.world.put_overlay(network, &mut new_id))?;
        self.converge(of_overlay(&id)).await
    }

    /// Forgets an overlay network. Fails while endpoints are on it. An unknown one
    /// is not an error.
    pub async fn remove_overlay(&self, id: &NetworkId) -> Result<()> {
        self.shared().change(|state| state.world.remove_overlay(id))?;
        self.converge(of_overlay(id)).await
    }

    /// Puts a task's endpoints into rotation: names, virtual addresses, routing
    /// mesh. Returns when the mesh, the addresses and the task's own namespace have
    /// it, and the other nodes said that they have it too (for some seconds at most);
    /// other containers' edges on this host follow in their turn. Call it when the task runs and is
    /// healthy. For a standalone container on an attachable overlay it makes its
    /// names known.
    pub async fn enable_service(&self, id: &SandboxId) -> Result<()> {
        self.shared().change(|state| state.world.set_rotation(id, true))?;
        let mut names =
            BTreeSet::from([NsName::Host, NsName::Ingress, NsName::Sandbox(id.clone())]);
        self.shared().read(|world| {
            let endpoints = world.sandbox(id).into_iter().flat_map(|s| &s.endpoints);
            names.extend(endpoints.map(|e| NsName::Balancer(e.network.clone())));
        });
        self.converge(names).await?;
        self.settled(id, true).await;
        Ok(())
    }

    /// Takes a task's endpoints out of rotation; open connections go on. Returns
    /// when no container of this host and nobody through its mesh is sent to it any
    /// more, and the other nodes said the same (for some seconds at most). Call it before the stop signal.
    pub async fn disable_service(&self, id: &SandboxId) -> Result<()> {
        let (own, others) = self.shared().change(|state| {
            state.world.set_rotation(id, false)?;
            let networks = state.world.sandbox(id).into_iter().flat_map(|s| &s.endpoints);
            let mut names = BTreeSet::from([NsName::Host, NsName::Ingress]);
            let mut others = BTreeSet::new();
            for endpoint in networks {
                others.extend(senders(&state.world, &endpoint.network));
            }
            names.insert(NsName::Sandbox(id.clone()));
            Ok((names, others))
        })?;
        // Somebody else's namespace that is broken is no reason to stop this task unannounced.
        let results = self.bring(own.union(&others).cloned().collect()).await?;
        self.settled(id, false).await;
        first_error(results.into_iter().filter(|(name, _)| own.contains(name)))
    }

    /// Takes over what other nodes said, in order. Records of unknown networks are
    /// kept for when the network becomes known.
    pub async fn apply_remote(&self, changes: Vec<RemoteChange>) -> Result<()> {
        let networks: BTreeSet<NetworkId> = changes.iter().map(|c| c.network().clone()).collect();
        let mut names = self.take_over(changes);
        self.shared().read(|world| {
            names.extend(networks.iter().flat_map(|network| containers(world, network)));
        });
        self.converge(names).await
    }

    /// The same without the waiting. Which namespaces have to follow before it is in force: those that send, where somebody
    /// is to be sent nothing more; else the host's own, and the others follow by themselves.
    pub(super) fn take_over(&self, changes: Vec<RemoteChange>) -> BTreeSet<NsName> {
        let taken = self.shared().change(|state| {
            let mut names = BTreeSet::new();
            for change in &changes {
                names.extend(of_overlay(change.network()));
                match change {
                    RemoteChange::Endpoint(_, _, Some(record)) if !record.disabled => {}
                    RemoteChange::Endpoint(network, ..) => {
                        names.extend(senders(&state.world, network))
                    }
                    // Who may send to this host's tasks.
                    change => names.extend(containers(&state.world, change.network())),
                }
            }
            state.world.apply_remote(changes);
            Ok(names)
        });
        // This change cannot fail.
        taken.unwrap_or_default()
    }

    /// What this node has to tell the others.
    pub fn local_records(&self) -> LocalRecords {
        self.shared().read(World::local_records)
    }

    /// Changes whenever [`Net::local_records`] may have.
    pub fn records_changed(&self) -> watch::Receiver<u64> {
        self.shared().changes()
    }
}

/// The namespaces of an overlay, and of the host, which may change with it.
fn of_overlay(network: &NetworkId) -> BTreeSet<NsName> {
    BTreeSet::from([
        NsName::Host,
        NsName::Ingress,
        NsName::Overlay(network.clone()),
        NsName::Balancer(network.clone()),
    ])
}

/// The namespaces of all overlays.
fn of_swarm(world: &World) -> BTreeSet<NsName> {
    world.running.overlays.keys().flat_map(of_overlay).chain([NsName::Host]).collect()
}

/// From where connections are sent to an overlay's endpoints: the containers there. On the ingress network only the mesh
/// sends.
pub(super) fn senders<'a>(
    world: &'a World,
    network: &'a NetworkId,
) -> impl Iterator<Item = NsName> + 'a {
    let ingress = world.running.overlays.get(network).is_some_and(|n| n.ingress);
    containers(world, network).filter(move |_| !ingress)
}

fn containers<'a>(world: &'a World, network: &'a NetworkId) -> impl Iterator<Item = NsName> + 'a {
    let all = world.endpoints_on(network);
    all.map(|(sandbox, _)| NsName::Sandbox(sandbox.spec.id.clone()))
}
