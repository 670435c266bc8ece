use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_types::{Cluster, Config, Network, Node, Secret, Service, Task};

use super::{Object, Store};

/// A whole store as plain lists, in the order of ids: what a raft snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreSnapshot {
    /// Position of the last log entry in it.
    pub index: u64,
    pub clusters: Vec<Arc<Cluster>>,
    pub networks: Vec<Arc<Network>>,
    pub secrets: Vec<Arc<Secret>>,
    pub configs: Vec<Arc<Config>>,
    pub services: Vec<Arc<Service>>,
    pub nodes: Vec<Arc<Node>>,
    pub tasks: Vec<Arc<Task>>,
}

impl Store {
    pub fn snapshot(&self) -> StoreSnapshot {
        StoreSnapshot {
            index: self.index,
            clusters: self.clusters().cloned().collect(),
            networks: self.networks().cloned().collect(),
            secrets: self.secrets().cloned().collect(),
            configs: self.configs().cloned().collect(),
            services: self.services().cloned().collect(),
            nodes: self.nodes().cloned().collect(),
            tasks: self.tasks().cloned().collect(),
        }
    }
}

impl From<StoreSnapshot> for Store {
    fn from(snapshot: StoreSnapshot) -> Self {
        let mut store = Self { index: snapshot.index, ..Self::default() };
        let objects = (snapshot.clusters.into_iter().map(Object::from))
            .chain(snapshot.networks.into_iter().map(Object::from))
            .chain(snapshot.secrets.into_iter().map(Object::from))
            .chain(snapshot.configs.into_iter().map(Object::from))
            .chain(snapshot.services.into_iter().map(Object::from))
            .chain(snapshot.nodes.into_iter().map(Object::from))
            .chain(snapshot.tasks.into_iter().map(Object::from));
        for object in objects {
            store.put(object);
        }
        store
    }
}
