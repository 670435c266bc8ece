//! The cluster's objects, their versions and what can be looked up about them.

mod action;
mod apply;
pub(crate) mod index;
mod object;
mod query;
mod snapshot;

pub use action::{Action, Change, Changes};
pub use apply::ApplyError;
pub use object::{Kind, Object, ObjectKey};
pub use snapshot::StoreSnapshot;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use skep_types::{
    Cluster, ClusterId, Config, ConfigId, Network, NetworkId, Node, NodeId, Secret, SecretId,
    Service, ServiceId, Task, TaskId,
};

use index::{Entry, entries};

/// The state of a swarm at one position of its log.
///
/// Cloning is O(1): maps are persistent and objects shared. A clone never changes, so a reader that
/// keeps one sees one consistent moment.
#[derive(Clone, Debug, Default)]
pub struct Store {
    index: u64,
    clusters: OrdMap<ClusterId, Arc<Cluster>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    services: OrdMap<ServiceId, Arc<Service>>,
    tasks: OrdMap<TaskId, Arc<Task>>,
    networks: OrdMap<NetworkId, Arc<Network>>,
    secrets: OrdMap<SecretId, Arc<Secret>>,
    configs: OrdMap<ConfigId, Arc<Config>>,
    entries: OrdSet<Entry>,
}

macro_rules! tables {
    ($($one:ident $many:ident: $id:ident $kind:ident),* $(,)?) => {
        impl Store {
            $(
                pub fn $one(&self, id: &$id) -> Option<&Arc<$kind>> {
                    self.$many.get(id)
                }

                /// In the order of ids.
                pub fn $many(&self) -> impl Iterator<Item = &Arc<$kind>> {
                    self.$many.values()
                }
            )*

            /// Any object by its key.
            pub fn get(&self, key: &ObjectKey) -> Option<Object> {
                match key {
                    $(ObjectKey::$kind(id) => self.$many.get(id).cloned().map(Object::$kind),)*
                }
            }

            /// Inserts or replaces; keeps the index in line.
            pub(crate) fn put(&mut self, object: Object) {
                let new = entries(&object);
                let old = match object {
                    $(Object::$kind(object) => {
                        self.$many.insert(object.id.clone(), object).map(Object::$kind)
                    })*
                };
                self.reindex(old.as_ref().map(entries).unwrap_or_default(), new);
            }

            /// Takes an object out, if it is there.
            pub(crate) fn take(&mut self, key: &ObjectKey) -> Option<Object> {
                let old = match key {
                    $(ObjectKey::$kind(id) => self.$many.remove(id).map(Object::$kind),)*
                };
                self.reindex(old.as_ref().map(entries).unwrap_or_default(), Vec::new());
                old
            }
        }
    };
}

tables! {
    cluster_by_id clusters: ClusterId Cluster,
    node nodes: NodeId Node,
    service services: ServiceId Service,
    task tasks: TaskId Task,
    network networks: NetworkId Network,
    secret secrets: SecretId Secret,
    config configs: ConfigId Config,
}

impl Store {
    /// An empty store, before any log entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Position of the last applied log entry; 0 before any.
    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Both lists are sorted.
    fn reindex(&mut self, old: Vec<Entry>, new: Vec<Entry>) {
        for entry in &old {
            if new.binary_search(entry).is_err() {
                self.entries.remove(entry);
            }
        }
        for entry in new {
            if old.binary_search(&entry).is_err() {
                self.entries.insert(entry);
            }
        }
    }
}
