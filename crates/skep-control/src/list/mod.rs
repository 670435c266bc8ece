//! Which objects a list shows. Filters of one field are alternatives, fields add up, labels must all
//! fit; empty fields filter nothing.

mod service_status;

pub use service_status::{ServiceStatus, service_status};

use std::sync::Arc;

use skep_types::{
    Config, LabelFilter, Network, Node, NodeId, NodeMembership, NodeRole, Secret, Service,
    ServiceId, ServiceMode, StringMap, Task, TaskState,
};

use crate::Store;
use crate::orchestrator::is_up_to_date;

/// What every kind of object can be selected by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Prefixes of ids (Docker's `id`).
    pub id_prefixes: Vec<String>,
    /// Prefixes of names (Docker's `name`).
    pub name_prefixes: Vec<String>,
    /// Whole names (Docker's `names` of secrets and configs).
    pub names: Vec<String>,
    /// Required labels. All of them must fit.
    pub labels: Vec<LabelFilter>,
}

impl Filter {
    fn fits(&self, id: &str, name: &str, labels: &StringMap) -> bool {
        self.fits_named(id, &[name], labels)
    }

    /// The same for something that has several names.
    fn fits_named(&self, id: &str, names: &[&str], labels: &StringMap) -> bool {
        prefix(&self.id_prefixes, id)
            && names.iter().any(|name| {
                prefix(&self.name_prefixes, name)
                    && (self.names.is_empty() || self.names.iter().any(|wanted| wanted == name))
            })
            && has_labels(&self.labels, labels)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeFilter {
    Replicated,
    Global,
    ReplicatedJob,
    GlobalJob,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFilter {
    pub common: Filter,
    pub modes: Vec<ModeFilter>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// Names are the host's and that in the node's spec; labels the engine's.
    pub common: Filter,
    /// Of the node's spec (Docker's `node.label`).
    pub node_labels: Vec<LabelFilter>,
    pub roles: Vec<NodeRole>,
    pub memberships: Vec<NodeMembership>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// The name is the task's whole one, so a service's name fits its tasks too; labels are the service's.
    pub common: Filter,
    pub services: Vec<ServiceId>,
    pub nodes: Vec<NodeId>,
    pub desired_states: Vec<TaskState>,
    /// `Some(true)`: only tasks made from their service's present spec.
    pub up_to_date: Option<bool>,
}

/// Services that fit, in the order of ids.
pub fn services(store: &Store, filter: &ServiceFilter) -> Vec<Arc<Service>> {
    let fits = |service: &&Arc<Service>| {
        let annotations = &service.spec.annotations;
        filter.common.fits(service.id.as_str(), &annotations.name, &annotations.labels)
            && any(&filter.modes, &mode_of(&service.spec.mode))
    };
    store.services().filter(fits).cloned().collect()
}

/// Nodes that fit, in the order of ids.
pub fn nodes(store: &Store, filter: &NodeFilter) -> Vec<Arc<Node>> {
    let none = StringMap::new();
    let fits = |node: &&Arc<Node>| {
        let engine = node.description.engine.as_ref().map_or(&none, |engine| &engine.labels);
        let names = [node.description.hostname.as_str(), node.spec.annotations.name.as_str()];
        let given = if names[1].is_empty() { 1 } else { 2 };
        filter.common.fits_named(node.id.as_str(), &names[..given], engine)
            && has_labels(&filter.node_labels, &node.spec.annotations.labels)
            && any(&filter.roles, &node.role)
            && any(&filter.memberships, &node.spec.membership)
    };
    store.nodes().filter(fits).cloned().collect()
}

/// Tasks that fit, in the order of ids. Attachments of single containers are never shown.
pub fn tasks(store: &Store, filter: &TaskFilter) -> Vec<Arc<Task>> {
    let fits = |task: &&Arc<Task>| {
        task.spec.network_attachment_spec.is_none()
            && any(&filter.services, &task.service_id)
            && any(&filter.nodes, &task.node_id)
            && any(&filter.desired_states, &task.desired_state)
            && filter.common.fits(task.id.as_str(), &task.name(), &task.service_annotations.labels)
            && filter.up_to_date.is_none_or(|wanted| {
                let service = store.service(&task.service_id);
                service.is_some_and(|service| is_up_to_date(store, service, task)) == wanted
            })
    };
    match filter.services.as_slice() {
        [one] => store.tasks_of_service(one).filter(fits).cloned().collect(),
        _ => store.tasks().filter(fits).cloned().collect(),
    }
}

/// Swarm networks that fit, in the order of ids, predefined ones included.
pub fn networks(store: &Store, filter: &Filter) -> Vec<Arc<Network>> {
    let fits = |n: &&Arc<Network>| {
        filter.fits(n.id.as_str(), &n.spec.annotations.name, &n.spec.annotations.labels)
    };
    store.networks().filter(fits).cloned().collect()
}

/// Users' secrets that fit, in the order of ids, with their data; doors must not show it.
pub fn secrets(store: &Store, filter: &Filter) -> Vec<Arc<Secret>> {
    let fits = |s: &&Arc<Secret>| {
        !s.internal
            && filter.fits(s.id.as_str(), &s.spec.annotations.name, &s.spec.annotations.labels)
    };
    store.secrets().filter(fits).cloned().collect()
}

/// Configs that fit, in the order of ids.
pub fn configs(store: &Store, filter: &Filter) -> Vec<Arc<Config>> {
    let fits = |c: &&Arc<Config>| {
        filter.fits(c.id.as_str(), &c.spec.annotations.name, &c.spec.annotations.labels)
    };
    store.configs().filter(fits).cloned().collect()
}

fn mode_of(mode: &ServiceMode) -> ModeFilter {
    match mode {
        ServiceMode::Replicated(_) => ModeFilter::Replicated,
        ServiceMode::Global(_) => ModeFilter::Global,
        ServiceMode::ReplicatedJob(_) => ModeFilter::ReplicatedJob,
        ServiceMode::GlobalJob(_) => ModeFilter::GlobalJob,
    }
}

fn any<T: PartialEq>(wanted: &[T], value: &T) -> bool {
    wanted.is_empty() || wanted.contains(value)
}

fn prefix(wanted: &[String], value: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|prefix| value.starts_with(prefix.as_str()))
}

fn has_labels(wanted: &[LabelFilter], labels: &StringMap) -> bool {
    wanted.iter().all(|filter| filter.fits(|key| labels.get(key).map(String::as_str)))
}
