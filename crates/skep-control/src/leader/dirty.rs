use std::collections::BTreeSet;

use skep_types::{Node, NodeId, ServiceId, ServiceMode, TaskId};

use crate::{Change, Changes, Object, ObjectKey, Store};

/// What the next step has to look at. Only a means to look at less: leaving something out delays it
/// until the next full pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty {
    /// Everything.
    pub all: bool,
    pub services: BTreeSet<ServiceId>,
    pub nodes: BTreeSet<NodeId>,
    /// Tasks without a service.
    pub attachments: BTreeSet<TaskId>,
    /// Some node appeared, vanished, or changed in what decides where tasks may be.
    pub placement: bool,
}

impl Dirty {
    pub fn merge(&mut self, other: Self) {
        self.all |= other.all;
        self.placement |= other.placement;
        self.services.extend(other.services);
        self.nodes.extend(other.nodes);
        self.attachments.extend(other.attachments);
    }

    pub fn note(&mut self, changes: &Changes) {
        for change in &changes.list {
            for object in change.old().into_iter().chain(change.new_object()) {
                self.note_object(object);
            }
            match change {
                Change::Updated { old: Object::Node(old), new: Object::Node(new) } => {
                    self.placement |= !same_for_placement(old, new);
                }
                Change::Created(Object::Node(_)) | Change::Removed(Object::Node(_)) => {
                    self.placement = true;
                }
                _ => {}
            }
            match change.key() {
                ObjectKey::Cluster(_) => self.all = true,
                // Who uses a network is not indexed by services, and networks seldom change.
                ObjectKey::Network(_) => self.all = true,
                _ => {}
            }
        }
    }

    fn note_object(&mut self, object: &Object) {
        match object {
            Object::Service(service) => {
                self.services.insert(service.id.clone());
            }
            Object::Node(node) => {
                self.nodes.insert(node.id.clone());
            }
            Object::Task(task) => {
                if task.service_id.is_empty() {
                    self.attachments.insert(task.id.clone());
                } else {
                    self.services.insert(task.service_id.clone());
                }
                if !task.node_id.is_empty() {
                    self.nodes.insert(task.node_id.clone());
                }
            }
            Object::Cluster(_) | Object::Network(_) | Object::Secret(_) | Object::Config(_) => {}
        }
    }

    /// Spells out `all` and `placement` in services, nodes and tasks.
    pub fn expand(&mut self, store: &Store) {
        if self.all {
            self.services.extend(store.services().map(|service| service.id.clone()));
            self.nodes.extend(store.nodes().map(|node| node.id.clone()));
            for task in store.tasks() {
                // Also those whose service is gone.
                if task.service_id.is_empty() {
                    self.attachments.insert(task.id.clone());
                } else if !self.services.contains(&task.service_id) {
                    self.services.insert(task.service_id.clone());
                }
            }
        } else if self.placement {
            for node in &self.nodes {
                for task in store.tasks_of_node(node) {
                    if task.service_id.is_empty() {
                        self.attachments.insert(task.id.clone());
                    } else {
                        self.services.insert(task.service_id.clone());
                    }
                }
            }
            let global = store.services().filter(|service| {
                matches!(service.spec.mode, ServiceMode::Global(_) | ServiceMode::GlobalJob(_))
            });
            self.services.extend(global.map(|service| service.id.clone()));
        }
    }
}

fn same_for_placement(old: &Node, new: &Node) -> bool {
    old.spec == new.spec
        && old.status == new.status
        && old.role == new.role
        && old.description == new.description
}
