//! Which objects a list shows. Filters of one field are alternatives, fields add up, labels must all
//! fit; empty fields filter nothing.

mod service_status;

pub use service_status::{ServiceStatus, service_status};

use std::sync::Arc;

use skep_types::{
    Config, Network, Node, NodeId, NodeMembership, NodeRole, Secret, Service, ServiceId,
    ServiceMode, StringMap, Task, TaskState,
};

use crate::Store;
use crate::orchestrator::is_up_to_date;

/// Label filters: key and wanted value; an empty value fits any.
pub type Labels = Vec<(String, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeFilter {
    Replicated,
    Global,
    ReplicatedJob,
    GlobalJob,
}

#[derive(Clone, Debug, Default)]
pub struct ServiceFilter {
    pub id_prefixes: Vec<String>,
    pub name_prefixes: Vec<String>,
    pub labels: Labels,
    pub modes: Vec<ModeFilter>,
}

#[derive(Clone, Debug, Default)]
pub struct NodeFilter {
    pub id_prefixes: Vec<String>,
    /// Of the host name, or of the name in the node's spec.
    pub name_prefixes: Vec<String>,
    /// Of the node's engine.
    pub engine_labels: Labels,
    /// Of the node's spec.
    pub node_labels: Labels,
    pub roles: Vec<NodeRole>,
    pub memberships: Vec<NodeMembership>,
}

#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    pub id_prefixes: Vec<String>,
    /// Of the task's whole name, so a service's name fits its tasks too.
    pub name_prefixes: Vec<String>,
    /// Of the task's service.
    pub labels: Labels,
    pub services: Vec<ServiceId>,
    pub nodes: Vec<NodeId>,
    pub desired_states: Vec<TaskState>,
    /// `Some(true)`: only tasks made from their service's present spec.
    pub up_to_date: Option<bool>,
}

/// For networks, secrets and configs.
#[derive(Clone, Debug, Default)]
pub struct NamedFilter {
    pub id_prefixes: Vec<String>,
    pub names: Vec<String>,
    pub name_prefixes: Vec<String>,
    pub labels: Labels,
}

impl NamedFilter {
    fn fits(&self, id: &str, name: &str, labels: &StringMap) -> bool {
        prefix(&self.id_prefixes, id)
            && (self.names.is_empty() || self.names.iter().any(|n| n == name))
            && prefix(&self.name_prefixes, name)
            && has_labels(&self.labels, labels)
    }
}

/// Services that fit, in the order of ids.
pub fn services(store: &Store, filter: &ServiceFilter) -> Vec<Arc<Service>> {
    let fits = |service: &&Arc<Service>| {
        prefix(&filter.id_prefixes, service.id.as_str())
            && prefix(&filter.name_prefixes, &service.spec.annotations.name)
            && has_labels(&filter.labels, &service.spec.annotations.labels)
            && any(&filter.modes, &mode_of(&service.spec.mode))
    };
    store.services().filter(fits).cloned().collect()
}

/// Nodes that fit, in the order of ids.
pub fn nodes(store: &Store, filter: &NodeFilter) -> Vec<Arc<Node>> {
    let none = StringMap::new();
    let fits = |node: &&Arc<Node>| {
        let engine = node.description.engine.as_ref().map_or(&none, |engine| &engine.labels);
        prefix(&filter.id_prefixes, node.id.as_str())
            && (prefix(&filter.name_prefixes, &node.description.hostname)
                || (!node.spec.annotations.name.is_empty()
                    && prefix(&filter.name_prefixes, &node.spec.annotations.name)))
            && has_labels(&filter.engine_labels, engine)
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
            && prefix(&filter.id_prefixes, task.id.as_str())
            && any(&filter.services, &task.service_id)
            && any(&filter.nodes, &task.node_id)
            && any(&filter.desired_states, &task.desired_state)
            && (filter.name_prefixes.is_empty() || prefix(&filter.name_prefixes, &task.name()))
            && has_labels(&filter.labels, &task.service_annotations.labels)
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
pub fn networks(store: &Store, filter: &NamedFilter) -> Vec<Arc<Network>> {
    let fits = |n: &&Arc<Network>| {
        filter.fits(n.id.as_str(), &n.spec.annotations.name, &n.spec.annotations.labels)
    };
    store.networks().filter(fits).cloned().collect()
}

/// Users' secrets that fit, in the order of ids, with their data; doors must not show it.
pub fn secrets(store: &Store, filter: &NamedFilter) -> Vec<Arc<Secret>> {
    let fits = |s: &&Arc<Secret>| {
        !s.internal
            && filter.fits(s.id.as_str(), &s.spec.annotations.name, &s.spec.annotations.labels)
    };
    store.secrets().filter(fits).cloned().collect()
}

/// Configs that fit, in the order of ids.
pub fn configs(store: &Store, filter: &NamedFilter) -> Vec<Arc<Config>> {
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

fn has_labels(wanted: &Labels, labels: &StringMap) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key).is_some_and(|found| value.is_empty() || found == value))
}
