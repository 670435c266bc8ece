use std::net::Ipv4Addr;
use std::sync::Arc;

use skep_types::{
    Cluster, Config, ConfigId, Network, NetworkId, NodeId, Protocol, Secret, SecretId, Service,
    ServiceId, Task, TaskId,
};

use super::index::Entry;
use super::{Kind, ObjectKey, Store};

/// Iterates over the entries from `$start` on as long as they match `$pattern`.
macro_rules! scan {
    ($store:expr, $start:expr, $pattern:pat $(if $guard:expr)? => $value:expr) => {
        $store.entries.range($start..).map_while(move |entry| match entry {
            $pattern $(if $guard)? => Some($value),
            _ => None,
        })
    };
}

impl Store {
    /// The swarm; `None` before it was created.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.clusters().next()
    }

    /// Id of the object of that kind with that name; always `None` for nodes and tasks, whose names
    /// need not be unique.
    pub fn named(&self, kind: Kind, name: &str) -> Option<&str> {
        let start = Entry::Name(kind, name.to_owned(), String::new());
        match self.entries.range(start..).next() {
            Some(Entry::Name(k, n, id)) if *k == kind && n == name => Some(id),
            _ => None,
        }
    }

    pub fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.named(Kind::Service, name).and_then(|id| self.service(&ServiceId::from(id)))
    }

    pub fn network_named(&self, name: &str) -> Option<&Arc<Network>> {
        self.named(Kind::Network, name).and_then(|id| self.network(&NetworkId::from(id)))
    }

    pub fn secret_named(&self, name: &str) -> Option<&Arc<Secret>> {
        self.named(Kind::Secret, name).and_then(|id| self.secret(&SecretId::from(id)))
    }

    pub fn config_named(&self, name: &str) -> Option<&Arc<Config>> {
        self.named(Kind::Config, name).and_then(|id| self.config(&ConfigId::from(id)))
    }

    /// The routing mesh's network.
    pub fn ingress_network(&self) -> Option<&Arc<Network>> {
        self.networks().find(|network| network.spec.ingress)
    }

    /// Tasks of a service, in the order of ids; of one that is gone, too.
    pub fn tasks_of_service<'a>(
        &'a self,
        id: &'a ServiceId,
    ) -> impl Iterator<Item = &'a Arc<Task>> + 'a {
        let start = Entry::TaskOfService(id.clone(), TaskId::default());
        scan!(self, start, Entry::TaskOfService(service, task) if service == id => task)
            .filter_map(|task| self.task(task))
    }

    /// Tasks of a node, whatever their states.
    pub fn tasks_of_node<'a>(&'a self, id: &'a NodeId) -> impl Iterator<Item = &'a Arc<Task>> + 'a {
        let start = Entry::TaskOfNode(id.clone(), TaskId::default());
        scan!(self, start, Entry::TaskOfNode(node, task) if node == id => task)
            .filter_map(|task| self.task(task))
    }

    /// Tasks with an attachment to the network that have not ended.
    pub fn tasks_on_network<'a>(
        &'a self,
        id: &'a NetworkId,
    ) -> impl Iterator<Item = &'a Arc<Task>> + 'a {
        let start = Entry::TaskOnNetwork(id.clone(), TaskId::default());
        scan!(self, start, Entry::TaskOnNetwork(network, task) if network == id => task)
            .filter_map(|task| self.task(task))
    }

    /// Every (network, task) pair of tasks that have not ended, gone networks included.
    pub(crate) fn network_uses(&self) -> impl Iterator<Item = (&NetworkId, &TaskId)> {
        let start = Entry::TaskOnNetwork(NetworkId::default(), TaskId::default());
        scan!(self, start, Entry::TaskOnNetwork(network, task) => (network, task))
    }

    pub(crate) fn new_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        let start = Entry::NewTask(TaskId::default());
        scan!(self, start, Entry::NewTask(task) => task).filter_map(|task| self.task(task))
    }

    pub(crate) fn pending_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        let start = Entry::PendingTask(TaskId::default());
        scan!(self, start, Entry::PendingTask(task) => task).filter_map(|task| self.task(task))
    }

    pub(crate) fn removable_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        let start = Entry::RemovableTask(TaskId::default());
        scan!(self, start, Entry::RemovableTask(task) => task).filter_map(|task| self.task(task))
    }

    /// Who holds an address of a network: a service (its VIP), a task or a node.
    pub fn address_owner(&self, network: &NetworkId, address: Ipv4Addr) -> Option<&ObjectKey> {
        let first = ObjectKey::Cluster(String::new().into());
        match self.entries.range(Entry::Address(network.clone(), address, first)..).next() {
            Some(Entry::Address(n, a, owner)) if n == network && *a == address => Some(owner),
            _ => None,
        }
    }

    /// Addresses in use on a network with their owners, in the order of addresses.
    pub fn addresses<'a>(
        &'a self,
        id: &'a NetworkId,
    ) -> impl Iterator<Item = (Ipv4Addr, &'a ObjectKey)> + 'a {
        let first = ObjectKey::Cluster(String::new().into());
        let start = Entry::Address(id.clone(), Ipv4Addr::UNSPECIFIED, first);
        scan!(self, start, Entry::Address(network, address, owner) if network == id => (*address, owner))
    }

    /// The service that has a port of the routing mesh.
    pub fn ingress_port_owner(&self, protocol: Protocol, port: u32) -> Option<&Arc<Service>> {
        let start = Entry::IngressPort(protocol, port, ServiceId::default());
        match self.entries.range(start..).next() {
            Some(Entry::IngressPort(p, n, service)) if *p == protocol && *n == port => {
                self.service(service)
            }
            _ => None,
        }
    }

    /// Every port of the routing mesh in use.
    pub fn ingress_ports(&self) -> impl Iterator<Item = (Protocol, u32, &ServiceId)> {
        let start = Entry::IngressPort(Protocol::Tcp, 0, ServiceId::default());
        scan!(self, start, Entry::IngressPort(protocol, port, id) => (*protocol, *port, id))
    }

    /// VXLAN ids in use with their networks.
    pub fn vnis(&self) -> impl Iterator<Item = (u32, &NetworkId)> {
        let start = Entry::Vni(0, NetworkId::default());
        scan!(self, start, Entry::Vni(vni, network) => (*vni, network))
    }

    /// A network by id, by name, or by an id prefix that only one has.
    pub fn find_network(&self, target: &str) -> Option<&Arc<Network>> {
        self.network(&NetworkId::from(target))
            .or_else(|| self.network_named(target))
            .or_else(|| only(self.networks().filter(|n| n.id.as_str().starts_with(target))))
    }

    /// A service by id, by name, or by an id prefix that only one has.
    pub fn find_service(&self, target: &str) -> Option<&Arc<Service>> {
        self.service(&ServiceId::from(target))
            .or_else(|| self.service_named(target))
            .or_else(|| only(self.services().filter(|s| s.id.as_str().starts_with(target))))
    }

    /// A secret by id, by name, or by an id prefix that only one has.
    pub fn find_secret(&self, target: &str) -> Option<&Arc<Secret>> {
        self.secret(&SecretId::from(target))
            .or_else(|| self.secret_named(target))
            .or_else(|| only(self.secrets().filter(|s| s.id.as_str().starts_with(target))))
    }

    /// A config by id, by name, or by an id prefix that only one has.
    pub fn find_config(&self, target: &str) -> Option<&Arc<Config>> {
        self.config(&ConfigId::from(target))
            .or_else(|| self.config_named(target))
            .or_else(|| only(self.configs().filter(|c| c.id.as_str().starts_with(target))))
    }

    /// A node by id, by a host name that only one has, or by an id prefix that only one has.
    pub fn find_node(&self, target: &str) -> Option<&Arc<skep_types::Node>> {
        self.node(&NodeId::from(target))
            .or_else(|| only(self.nodes().filter(|n| n.description.hostname == target)))
            .or_else(|| only(self.nodes().filter(|n| n.id.as_str().starts_with(target))))
    }

    /// A task by id, by an id prefix that only one has, or by its whole name.
    pub fn find_task(&self, target: &str) -> Option<&Arc<Task>> {
        self.task(&TaskId::from(target))
            .or_else(|| only(self.tasks().filter(|t| t.id.as_str().starts_with(target))))
            .or_else(|| only(self.tasks().filter(|t| t.name() == target)))
    }
}

fn only<T>(mut iter: impl Iterator<Item = T>) -> Option<T> {
    let first = iter.next()?;
    iter.next().is_none().then_some(first)
}
