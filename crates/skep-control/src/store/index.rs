//! What the store can find without a scan. Derived from the objects alone and never serialised, so it
//! cannot drift from them: in particular the addresses, ports and VXLAN ids in use are not a table of
//! the allocator's but a view of who holds them.

use std::net::Ipv4Addr;

use skep_types::{
    Cidr, Network, NetworkAttachment, NetworkId, Node, NodeId, Protocol, PublishMode, Service,
    ServiceId, Task, TaskId, TaskState, VXLAN_ID_LIST,
};

use super::{Kind, Object, ObjectKey};

/// One fact about one object. All entries share one ordered set: what follows a prefix is a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entry {
    /// Names that must be unique.
    Name(Kind, String, String),
    TaskOfService(ServiceId, TaskId),
    TaskOfNode(NodeId, TaskId),
    /// Tasks that may still use the network.
    TaskOnNetwork(NetworkId, TaskId),
    /// Waits for the allocator.
    NewTask(TaskId),
    /// Waits for the scheduler.
    PendingTask(TaskId),
    /// Desired state REMOVE.
    RemovableTask(TaskId),
    Address(NetworkId, Ipv4Addr, ObjectKey),
    /// Published through the mesh.
    IngressPort(Protocol, u32, ServiceId),
    Vni(u32, NetworkId),
}

/// All entries of an object, in order.
pub(crate) fn entries(object: &Object) -> Vec<Entry> {
    let mut list = Vec::new();
    match object {
        Object::Task(task) => of_task(task, &mut list),
        Object::Service(service) => of_service(service, &mut list),
        Object::Node(node) => of_node(node, &mut list),
        Object::Network(network) => of_network(network, &mut list),
        Object::Cluster(_) | Object::Secret(_) | Object::Config(_) => {}
    }
    let kind = object.key().kind();
    let name = object.name();
    if !matches!(kind, Kind::Node | Kind::Task) && !name.is_empty() {
        list.push(Entry::Name(kind, name.to_owned(), object.key().id().to_owned()));
    }
    list.sort_unstable();
    list.dedup();
    list
}

fn of_task(task: &Task, list: &mut Vec<Entry>) {
    let id = &task.id;
    if !task.service_id.is_empty() {
        list.push(Entry::TaskOfService(task.service_id.clone(), id.clone()));
    }
    if !task.node_id.is_empty() {
        list.push(Entry::TaskOfNode(task.node_id.clone(), id.clone()));
    }
    match task.status.state {
        TaskState::New => list.push(Entry::NewTask(id.clone())),
        TaskState::Pending => list.push(Entry::PendingTask(id.clone())),
        _ => {}
    }
    if task.desired_state == TaskState::Remove {
        list.push(Entry::RemovableTask(id.clone()));
    }
    if !task.status.state.is_terminal() {
        let key = ObjectKey::Task(id.clone());
        for attachment in &task.networks_attachments {
            list.push(Entry::TaskOnNetwork(attachment.network.id.clone(), id.clone()));
            of_attachment(attachment, &key, list);
        }
    }
}

fn of_attachment(attachment: &NetworkAttachment, owner: &ObjectKey, list: &mut Vec<Entry>) {
    for address in &attachment.addresses {
        if let Some(address) = host_part(address) {
            list.push(Entry::Address(attachment.network.id.clone(), address, owner.clone()));
        }
    }
}

fn of_service(service: &Service, list: &mut Vec<Entry>) {
    let owner = ObjectKey::Service(service.id.clone());
    for vip in &service.endpoint.virtual_ips {
        if let Some(address) = host_part(&vip.addr) {
            list.push(Entry::Address(vip.network_id.clone(), address, owner.clone()));
        }
    }
    for port in &service.endpoint.ports {
        if port.publish_mode == PublishMode::Ingress && port.published_port != 0 {
            let id = service.id.clone();
            list.push(Entry::IngressPort(port.protocol, port.published_port, id));
        }
    }
}

fn of_node(node: &Node, list: &mut Vec<Entry>) {
    let owner = ObjectKey::Node(node.id.clone());
    for attachment in &node.attachments {
        of_attachment(attachment, &owner, list);
    }
}

fn of_network(network: &Network, list: &mut Vec<Entry>) {
    for vni in vnis(network) {
        list.push(Entry::Vni(vni, network.id.clone()));
    }
}

/// The VXLAN ids an allocated network has.
pub(crate) fn vnis(network: &Network) -> impl Iterator<Item = u32> + '_ {
    let list = network.driver_state.options.get(VXLAN_ID_LIST);
    list.into_iter().flat_map(|list| list.split(',')).filter_map(|vni| vni.trim().parse().ok())
}

/// The address in `10.0.1.3/24`; `None` for IPv6, which is not allocated.
pub(crate) fn host_part(address: &str) -> Option<Ipv4Addr> {
    match address.parse::<Cidr>() {
        Ok(net) => Some(net.addr()),
        Err(_) => address.parse().ok(),
    }
}
