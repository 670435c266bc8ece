use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_types::{
    GenericResource, Node, NodeId, Protocol, PublishMode, ServiceId, Task, TaskState,
};

use super::generic::Free;
use crate::Store;

/// A node and what its tasks take of it.
#[derive(Debug)]
pub(crate) struct NodeInfo {
    pub node: Arc<Node>,
    used_cpus: i64,
    used_memory: i64,
    pub generic_free: Free,
    /// Ports of the host that its tasks hold.
    pub host_ports: BTreeSet<(Protocol, u32)>,
    /// Tasks that are meant to run.
    pub active: u64,
    active_by_service: BTreeMap<ServiceId, u64>,
}

impl NodeInfo {
    fn new(node: &Arc<Node>) -> Self {
        Self {
            node: Arc::clone(node),
            used_cpus: 0,
            used_memory: 0,
            generic_free: Free::new(&node.description.resources.generic_resources),
            host_ports: BTreeSet::new(),
            active: 0,
            active_by_service: BTreeMap::new(),
        }
    }

    pub fn free_cpus(&self) -> i64 {
        self.node.description.resources.nano_cpus.saturating_sub(self.used_cpus)
    }

    pub fn free_memory(&self) -> i64 {
        self.node.description.resources.memory_bytes.saturating_sub(self.used_memory)
    }

    /// Tasks of a service that are meant to run here.
    pub fn tasks_of(&self, service: &ServiceId) -> u64 {
        self.active_by_service.get(service).copied().unwrap_or(0)
    }

    /// A task that has not ended holds what it reserved, even when it is about to stop.
    fn add(&mut self, task: &Task, held: &[GenericResource]) {
        if let Some(reserved) = task.spec.resources.as_ref().and_then(|r| r.reservations.as_ref()) {
            self.used_cpus = self.used_cpus.saturating_add(reserved.nano_cpus);
            self.used_memory = self.used_memory.saturating_add(reserved.memory_bytes);
        }
        self.generic_free.remove(held);
        for port in task.endpoint.iter().flat_map(|endpoint| &endpoint.ports) {
            if port.publish_mode == PublishMode::Host && port.published_port != 0 {
                self.host_ports.insert((port.protocol, port.published_port));
            }
        }
        if task.desired_state <= TaskState::Complete {
            self.active += 1;
            *self.active_by_service.entry(task.service_id.clone()).or_default() += 1;
        }
    }
}

/// All nodes, kept in line with what one pass of the scheduler decides.
#[derive(Debug)]
pub(crate) struct Nodes(BTreeMap<NodeId, NodeInfo>);

impl Nodes {
    pub fn new(store: &Store) -> Self {
        let mut nodes: BTreeMap<NodeId, NodeInfo> =
            store.nodes().map(|node| (node.id.clone(), NodeInfo::new(node))).collect();
        for task in store.tasks() {
            let state = task.status.state;
            if (TaskState::Assigned..=TaskState::Running).contains(&state)
                && let Some(info) = nodes.get_mut(&task.node_id)
            {
                info.add(task, &task.generic_resources);
            }
        }
        Self(nodes)
    }

    pub fn get(&self, id: &NodeId) -> Option<&NodeInfo> {
        self.0.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &NodeInfo> {
        self.0.values()
    }

    /// Books a task on a node; returns the generic resources it gets.
    pub fn claim(&mut self, id: &NodeId, task: &Task) -> Vec<GenericResource> {
        let Some(info) = self.0.get_mut(id) else { return Vec::new() };
        let wanted = task.spec.resources.as_ref().and_then(|r| r.reservations.as_ref());
        let held = wanted.map(|w| info.generic_free.pick(&w.generic_resources)).unwrap_or_default();
        info.add(task, &held);
        held
    }
}
