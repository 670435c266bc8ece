//! What must hold after every log entry, and what must hold once the leader is at rest.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use skep_control::{Change, Changes, Object, Store};
use skep_types::{NetworkId, PublishMode, Task, TaskId, TaskState, VXLAN_ID_LIST};

#[derive(Default)]
pub struct Seen {
    states: BTreeMap<TaskId, (TaskState, TaskState)>,
}

pub fn check(store: &Store, changes: &Changes, seen: &mut Seen) {
    tasks_only_move_forward(changes, seen);
    let allocates = changes.list.iter().any(|change| {
        !matches!(change, Change::Updated { old: Object::Task(old), new: Object::Task(new) }
            if old.networks_attachments == new.networks_attachments)
    });
    if allocates {
        no_address_twice(store);
        no_vni_or_subnet_twice(store);
        no_port_twice(store);
    }
}

fn tasks_only_move_forward(changes: &Changes, seen: &mut Seen) {
    for change in &changes.list {
        let Some(Object::Task(task)) = change.new_object() else { continue };
        let now = (task.status.state, task.desired_state);
        if let Some(before) = seen.states.insert(task.id.clone(), now) {
            assert!(before.0 <= now.0, "observed state of {} goes back", task.id);
            assert!(before.1 <= now.1, "desired state of {} goes back", task.id);
        }
    }
}

fn no_address_twice(store: &Store) {
    let mut seen: BTreeMap<(NetworkId, String), String> = BTreeMap::new();
    let mut holds = |network: &NetworkId, address: &str, owner: String| {
        if let Some(other) = seen.insert((network.clone(), address.to_owned()), owner.clone()) {
            panic!("{address} of {network} is given to {other} and {owner}");
        }
        if let Some(network) = store.network(network) {
            let net: Ipv4Net = address.parse().expect("addresses have a prefix length");
            let configs = &network.ipam.as_ref().expect("allocated").configs;
            let inside = configs.iter().any(|config| {
                let subnet: Ipv4Net = config.subnet.parse().unwrap();
                subnet.contains(&net.addr())
                    && net.addr() != subnet.network()
                    && net.addr() != subnet.broadcast()
                    && net.addr().to_string() != config.gateway
            });
            assert!(inside, "{address} is not an address of {}", network.spec.annotations.name);
        }
    };
    for service in store.services() {
        for vip in &service.endpoint.virtual_ips {
            holds(&vip.network_id, &vip.addr, format!("service {}", service.id));
        }
    }
    for task in store.tasks().filter(|task| task.status.state <= TaskState::Running) {
        for attachment in &task.networks_attachments {
            for address in &attachment.addresses {
                holds(&attachment.network.id, address, format!("task {}", task.id));
            }
        }
    }
    for node in store.nodes() {
        for attachment in &node.attachments {
            for address in &attachment.addresses {
                holds(&attachment.network.id, address, format!("node {}", node.id));
            }
        }
    }
}

fn no_vni_or_subnet_twice(store: &Store) {
    let mut vnis = BTreeSet::new();
    let mut subnets: Vec<Ipv4Net> = Vec::new();
    for network in store.networks() {
        for vni in network.driver_state.options.get(VXLAN_ID_LIST).iter().flat_map(|l| l.split(','))
        {
            assert!(vnis.insert(vni.to_owned()), "VNI {vni} is given twice");
        }
        for config in network.ipam.iter().flat_map(|ipam| &ipam.configs) {
            let net: Ipv4Net = config.subnet.parse().unwrap();
            let clash = subnets
                .iter()
                .find(|other| other.contains(&net.network()) || net.contains(&other.network()));
            assert_eq!(clash, None, "subnet {net} is given twice");
            subnets.push(net);
        }
    }
}

fn no_port_twice(store: &Store) {
    let mut ports = BTreeSet::new();
    for service in store.services() {
        for port in &service.endpoint.ports {
            if port.publish_mode == PublishMode::Ingress {
                assert_ne!(port.published_port, 0);
                assert!(
                    ports.insert((port.protocol, port.published_port)),
                    "port {} is given twice",
                    port.published_port
                );
            }
        }
    }
}

/// Holds whenever the leader has nothing to do.
pub fn check_settled(store: &Store) {
    let limit = store.cluster().unwrap().spec.orchestration.task_history_retention_limit;
    let mut slots: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
    for task in store.tasks().filter(|task| task.desired_state != TaskState::Remove) {
        let node = if task.slot == 0 { task.node_id.clone() } else { Default::default() };
        slots.entry((task.service_id.clone(), task.slot, node)).or_default().push(task);
    }
    for ((service, slot, _), tasks) in &slots {
        let attempts = tasks
            .iter()
            .filter_map(|task| task.spec.restart_policy.as_ref()?.max_attempts)
            .max()
            .unwrap_or(0);
        let alive = tasks.iter().filter(|task| !task.status.state.is_terminal()).count();
        let keep = usize::try_from(limit.unwrap_or(5)).unwrap().max(alive);
        let bound = keep.max(usize::try_from(attempts).unwrap() + 1) + 1;
        assert!(tasks.len() <= bound, "{} tasks in slot {slot} of {service}", tasks.len());
        let wanted = tasks.iter().filter(|task| task.desired_state <= TaskState::Complete).count();
        assert!(wanted <= 2, "{wanted} wanted tasks in slot {slot} of {service}");
    }
    for task in store.tasks() {
        if store.service(&task.service_id).is_none() && !task.service_id.is_empty() {
            assert_eq!(task.desired_state, TaskState::Remove, "task of a removed service");
        }
    }
}
