//! The handle: every operation of the network room.

use crate::checks::Check;
use crate::config::NetConfig;
use crate::error::Result;
use crate::ids::{NetworkId, SandboxId};
use crate::model::{
    Cluster, EndpointInfo, EndpointSpec, LocalRecords, Network, NetworkCreate, NetworkInspect, OverlayNetwork,
    RemoteChange, SandboxAdoption, SandboxInfo, SandboxSpec,
};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::watch;

/// What a comparison of plan and kernel found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// Namespaces looked at.
    pub namespaces: usize,
    /// Links, addresses, routes, rules and settings that were put right.
    pub repairs: usize,
    /// Namespaces that could not be put right; the reasons were logged.
    pub failures: usize,
}

/// A host's network. Clones share one.
///
/// Methods must be called inside a tokio runtime. They are cancel safe in the sense
/// that the change, once begun, is carried through in the background.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

struct Inner {}

impl Net {
    /// Starts the network of this host (the calling thread's network namespace).
    ///
    /// Reads its state files, makes the predefined networks, compares with the
    /// kernel and repairs. Sandboxes that an earlier daemon left are kept as they
    /// are until [`Net::adopt`].
    pub async fn start(config: NetConfig) -> Result<Self> {
        let _ = config;
        unimplemented!()
    }

    /// Tells which sandboxes of an earlier daemon are still in use. Those get their
    /// resolver back; all others are removed. To be called once after start.
    /// Returns the ids that were asked for but are not known (to be made anew).
    pub async fn adopt(&self, in_use: Vec<SandboxAdoption>) -> Result<Vec<SandboxId>> {
        let _ = in_use;
        unimplemented!()
    }

    /// What the kernel offers, as found at start.
    pub fn checks(&self) -> Vec<Check> {
        unimplemented!()
    }

    /// Makes a local network.
    pub async fn create_network(&self, request: NetworkCreate) -> Result<Network> {
        let _ = request;
        unimplemented!()
    }

    /// All networks, local ones and the overlays known here, by name.
    pub fn networks(&self) -> Vec<Network> {
        unimplemented!()
    }

    /// A network by id, name or unambiguous id prefix, in this order.
    pub fn network(&self, reference: &str) -> Result<Network> {
        let _ = reference;
        unimplemented!()
    }

    /// A network with what is on it on this host.
    pub fn inspect(&self, reference: &str) -> Result<NetworkInspect> {
        let _ = reference;
        unimplemented!()
    }

    /// Removes a local network and returns what it was.
    pub async fn remove_network(&self, reference: &str) -> Result<Network> {
        let _ = reference;
        unimplemented!()
    }

    /// Removes the local networks, except the predefined ones and `docker_gwbridge`,
    /// that have no endpoint and that `wanted` picks.
    pub async fn prune_networks(&self, wanted: impl Fn(&Network) -> bool + Send) -> Result<Vec<Network>> {
        let _ = wanted;
        unimplemented!()
    }

    /// Makes a sandbox: namespace with loopback up, name files written.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxInfo> {
        let _ = spec;
        unimplemented!()
    }

    /// A sandbox as it is.
    pub fn sandbox(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let _ = id;
        unimplemented!()
    }

    /// Attaches a sandbox to networks, in this order, all or none. Interfaces are
    /// numbered in the same order; where an overlay is among them, an endpoint on
    /// `docker_gwbridge` follows as the last. Published ports are bound when the
    /// first endpoint with a way in appears.
    pub async fn connect(&self, sandbox: &SandboxId, endpoints: Vec<EndpointSpec>) -> Result<Vec<EndpointInfo>> {
        let _ = (sandbox, endpoints);
        unimplemented!()
    }

    /// Detaches a sandbox from one network (id, name or prefix).
    pub async fn disconnect(&self, sandbox: &SandboxId, network: &str) -> Result<()> {
        let _ = (sandbox, network);
        unimplemented!()
    }

    /// Removes a sandbox with its endpoints, ports and namespace. An unknown one is
    /// not an error.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        let _ = id;
        unimplemented!()
    }

    /// Takes note of a container's new name.
    pub async fn rename(&self, id: &SandboxId, name: &str) -> Result<()> {
        let _ = (id, name);
        unimplemented!()
    }

    /// Duplicates of the resolver's sockets in a sandbox, for a process that
    /// outlives the daemon to hold. Empty where names are not resolved.
    pub fn dns_sockets(&self, id: &SandboxId) -> Result<Vec<(String, OwnedFd)>> {
        let _ = id;
        unimplemented!()
    }

    /// Joins (`Some`) or leaves (`None`) a swarm. Leaving removes all overlays.
    pub async fn set_cluster(&self, cluster: Option<Cluster>) -> Result<()> {
        let _ = cluster;
        unimplemented!()
    }

    /// Adds or updates an overlay network. It exists in the kernel only while
    /// something on this host uses it; the ingress network always does.
    pub async fn put_overlay(&self, network: OverlayNetwork) -> Result<()> {
        let _ = network;
        unimplemented!()
    }

    /// Forgets an overlay network. Fails while endpoints are on it. An unknown one
    /// is not an error.
    pub async fn remove_overlay(&self, id: &NetworkId) -> Result<()> {
        let _ = id;
        unimplemented!()
    }

    /// Puts a task's endpoints into rotation: names, virtual addresses, routing
    /// mesh. Returns when this host's kernel has it. Call it when the task runs
    /// and is healthy. For a standalone container on an attachable overlay it
    /// makes its names known.
    pub async fn enable_service(&self, id: &SandboxId) -> Result<()> {
        let _ = id;
        unimplemented!()
    }

    /// Takes a task's endpoints out of rotation; open connections go on. Returns
    /// when this host sends it nothing new. Call it before the stop signal.
    pub async fn disable_service(&self, id: &SandboxId) -> Result<()> {
        let _ = id;
        unimplemented!()
    }

    /// Takes over what other nodes said, in order. Records of unknown networks are
    /// kept for when the network becomes known.
    pub async fn apply_remote(&self, changes: Vec<RemoteChange>) -> Result<()> {
        let _ = changes;
        unimplemented!()
    }

    /// What this node has to tell the others.
    pub fn local_records(&self) -> LocalRecords {
        unimplemented!()
    }

    /// Changes whenever [`Net::local_records`] may have.
    pub fn records_changed(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    /// Compares every namespace's plan with the kernel and repairs, now.
    pub async fn reconcile(&self) -> ReconcileReport {
        unimplemented!()
    }

    /// What is wrong at the moment and was not repaired, for people: ports of the
    /// routing mesh that something else holds, namespaces that could not be applied.
    pub fn problems(&self) -> Vec<String> {
        unimplemented!()
    }

    /// Ends the resolver and the verification loop. Nothing in the kernel changes.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
