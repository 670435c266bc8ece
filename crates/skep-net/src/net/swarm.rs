//! The swarm's side of a host's network.

use super::{Net, new_id, now_unix_nanos};
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
        self.shared()
            .change(|state| state.world.set_cluster(cluster, now_unix_nanos(), &mut new_id))?;
        // Reads the host again, for the underlay's MTU.
        self.reconcile().await;
        self.converge_all().await
    }

    /// Adds or updates an overlay network. It exists in the kernel only while
    /// something on this host uses it; the ingress network always does.
    pub async fn put_overlay(&self, network: OverlayNetwork) -> Result<()> {
        self.shared().change(|state| state.world.put_overlay(network, &mut new_id))?;
        self.converge_all().await
    }

    /// Forgets an overlay network. Fails while endpoints are on it. An unknown one
    /// is not an error.
    pub async fn remove_overlay(&self, id: &NetworkId) -> Result<()> {
        self.shared().change(|state| state.world.remove_overlay(id))?;
        self.converge_all().await
    }

    /// Puts a task's endpoints into rotation: names, virtual addresses, routing
    /// mesh. Returns when the mesh, the addresses and the task's own namespace have
    /// it, and the other nodes said that they have it too (for some seconds at most);
    /// other containers' edges on this host follow at once. Call it when the task runs and is
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
        self.shared().change(|state| state.world.set_rotation(id, false))?;
        self.converge_all().await?;
        self.settled(id, false).await;
        Ok(())
    }

    /// Takes over what other nodes said, in order. Records of unknown networks are
    /// kept for when the network becomes known.
    pub async fn apply_remote(&self, changes: Vec<RemoteChange>) -> Result<()> {
        self.shared().change(|state| {
            state.world.apply_remote(changes);
            Ok(())
        })?;
        self.converge_all().await
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
