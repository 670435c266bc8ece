//! The numbers that field reports of Docker Swarm show, in the order in which they show them.

use skep_control::admission;
use skep_types::{
    HostRoute, NetworkId, NetworkSpec, PortConfig, Protocol, PublishMode, ResolutionMode,
    RouteKind, Task, VXLAN_ID_LIST,
};

use crate::sim::Sim;
use crate::sim::spec::{network, on_network, port, publish, replicated};

fn create_network(sim: &mut Sim, spec: NetworkSpec) -> NetworkId {
    let (id, actions) =
        admission::create_network(&sim.store, spec, sim.now, &mut sim.chance).unwrap();
    sim.apply(actions);
    sim.settle();
    id
}

fn addresses(task: &Task) -> Vec<&str> {
    task.networks_attachments.iter().flat_map(|a| &a.addresses).map(String::as_str).collect()
}

#[test]
fn the_first_numbers_of_a_swarm() {
    let mut sim = Sim::new(1, 1);
    let ingress = sim.store.ingress_network().unwrap();
    assert_eq!(ingress.ipam.as_ref().unwrap().configs[0].subnet, "10.0.0.0/24");
    assert_eq!(ingress.ipam.as_ref().unwrap().configs[0].gateway, "10.0.0.1");
    assert_eq!(ingress.driver_state.name, "overlay");
    assert_eq!(ingress.driver_state.options[VXLAN_ID_LIST], "4096");
    let node = sim.store.node(&sim.nodes[0]).unwrap();
    assert_eq!(node.attachments[0].addresses, ["10.0.0.2/24"]);

    let id = create_network(&mut sim, network("demo"));
    let demo = sim.store.network(&id).unwrap();
    assert_eq!(demo.ipam.as_ref().unwrap().configs[0].subnet, "10.0.1.0/24");
    assert_eq!(demo.driver_state.options[VXLAN_ID_LIST], "4097");

    let mut spec = replicated("web", 2);
    publish(&mut spec, vec![port(80, 8080), port(81, 0)]);
    on_network(&mut spec, "demo");
    let web = sim.create(spec);
    sim.settle();
    let service = sim.service(&web);
    let vips: Vec<_> = service.endpoint.virtual_ips.iter().map(|vip| vip.addr.as_str()).collect();
    assert_eq!(vips, ["10.0.0.3/24", "10.0.1.2/24"]);
    let ports: Vec<_> = service.endpoint.ports.iter().map(|port| port.published_port).collect();
    assert_eq!(ports, [8080, 30000]);
    let mut tasks: Vec<_> = sim.tasks(&web).iter().map(|task| addresses(task).join(" ")).collect();
    tasks.sort();
    assert_eq!(tasks, ["10.0.0.4/24 10.0.1.3/24", "10.0.0.5/24 10.0.1.4/24"]);
    let node = sim.store.node(&sim.nodes[0]).unwrap();
    let own: Vec<_> = node.attachments.iter().flat_map(|a| &a.addresses).collect();
    assert_eq!(own, ["10.0.0.2/24", "10.0.1.5/24"]);
    let task = &sim.tasks(&web)[0];
    assert_eq!(task.endpoint.as_ref(), Some(&service.endpoint));
    assert_eq!(task.networks_attachments[0].network.spec.annotations.name, "ingress");
}

#[test]
fn subnets_go_round_the_routes_of_the_leader_s_host() {
    let (vpn, eth, dns) = (RouteKind::Routed, RouteKind::Connected, RouteKind::NameServer);
    let route = |destination: &str, prefix, kind| HostRoute {
        destination: destination.parse().unwrap(),
        prefix,
        interface: "eth1".to_owned(),
        kind,
    };
    // Routes; what the next three networks get.
    let cases: [(&[HostRoute], [&str; 3]); 5] = [
        (&[], ["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]),
        (
            &[route("10.0.1.0", 24, eth), route("10.0.3.9", 32, vpn)],
            ["10.0.2.0/24", "10.0.4.0/24", "10.0.5.0/24"],
        ),
        // The whole pool is routed: what is no interface's subnet has to do.
        (
            &[route("10.0.0.0", 8, vpn), route("10.0.2.0", 23, eth)],
            ["10.0.1.0/24", "10.0.4.0/24", "10.0.5.0/24"],
        ),
        (&[route("10.0.0.0", 8, eth)], ["", "", ""]),
        // A name server's subnet is not taken even then.
        (
            &[route("10.0.0.0", 8, vpn), route("10.0.2.53", 32, dns)],
            ["10.0.1.0/24", "10.0.3.0/24", "10.0.4.0/24"],
        ),
    ];
    for (routes, expected) in cases {
        let mut sim = Sim::new(1, 1);
        sim.leader.know_routes(routes.to_vec());
        let found = ["a", "b", "c"].map(|name| {
            let id = create_network(&mut sim, network(name));
            let ipam = sim.store.network(&id).unwrap().ipam.as_ref();
            ipam.map(|ipam| ipam.configs[0].subnet.clone()).unwrap_or_default()
        });
        assert_eq!(found, expected, "{routes:?}");
    }
}

#[test]
fn virtual_addresses_and_ports_stay_while_the_service_changes() {
    let mut sim = Sim::new(1, 2);
    create_network(&mut sim, network("demo"));
    let mut spec = replicated("web", 2);
    publish(&mut spec, vec![port(80, 0)]);
    on_network(&mut spec, "demo");
    let web = sim.create(spec);
    sim.run(10);
    let before = sim.service(&web).endpoint.clone();
    sim.update(&web, |spec| {
        spec.endpoint_spec.as_mut().unwrap().ports.push(port(90, 0));
    });
    sim.run(60);
    let after = sim.service(&web).endpoint.clone();
    assert_eq!(after.virtual_ips, before.virtual_ips);
    assert_eq!(after.ports[0], before.ports[0]);
    assert_eq!(after.ports[1].published_port, 30001);
    assert!(sim.running(&web).iter().all(|task| task.endpoint.as_ref() == Some(&after)));
}

#[test]
fn freed_addresses_are_given_again_last() {
    let mut sim = Sim::new(1, 1);
    create_network(&mut sim, network("demo"));
    let mut spec = replicated("web", 1);
    on_network(&mut spec, "demo");
    let first = sim.create(spec.clone());
    sim.run(10);
    sim.remove(&first);
    sim.run(10);
    spec.annotations.name = "again".to_owned();
    let second = sim.create(spec);
    sim.run(10);
    assert_eq!(sim.service(&second).endpoint.virtual_ips[0].addr, "10.0.1.5/24");
}

#[test]
fn dnsrr_services_have_no_virtual_address_and_host_ports_none_of_the_mesh() {
    let mut sim = Sim::new(1, 1);
    create_network(&mut sim, network("demo"));
    let mut spec = replicated("web", 1);
    on_network(&mut spec, "demo");
    publish(&mut spec, vec![PortConfig { publish_mode: PublishMode::Host, ..port(80, 8080) }]);
    spec.endpoint_spec.as_mut().unwrap().mode = ResolutionMode::Dnsrr;
    let web = sim.create(spec);
    sim.run(5);
    assert_eq!(sim.service(&web).endpoint.virtual_ips, []);
    assert_eq!(addresses(&sim.tasks(&web)[0]), ["10.0.1.2/24"]);
    assert!(sim.store.ingress_port_owner(Protocol::Tcp, 8080).is_none());
}

#[test]
fn predefined_networks_are_attached_without_addresses() {
    let mut sim = Sim::new(1, 1);
    let mut spec = replicated("web", 1);
    on_network(&mut spec, "host");
    let web = sim.create(spec);
    sim.run(5);
    let task = &sim.running(&web)[0];
    assert_eq!(task.networks_attachments[0].network.driver_state.name, "host");
    assert_eq!(addresses(task), [""; 0]);
}

#[test]
fn node_addresses_come_and_go_with_the_nodes_tasks() {
    let mut sim = Sim::new(1, 2);
    let net = create_network(&mut sim, network("demo"));
    let mut spec = replicated("web", 1);
    on_network(&mut spec, "demo");
    let web = sim.create(spec);
    sim.run(5);
    let on = |sim: &Sim| -> usize {
        sim.store
            .nodes()
            .filter(|node| node.attachments.iter().any(|a| a.network.id == net))
            .count()
    };
    assert_eq!(on(&sim), 1);
    sim.remove(&web);
    sim.run(5);
    assert_eq!(on(&sim), 0);
    assert_eq!(sim.store.addresses(&net).count(), 0);
}

#[test]
fn attachments_of_single_containers() {
    let mut sim = Sim::new(1, 1);
    let node = sim.nodes[0].clone();
    let mut spec = network("demo");
    let plain = create_network(&mut sim, network("plain"));
    spec.attachable = true;
    create_network(&mut sim, spec);
    let wish = |target: &str, address: &str| skep_types::NetworkAttachmentConfig {
        target: target.to_owned(),
        addresses: vec![address.to_owned()],
        ..Default::default()
    };
    let attach = |sim: &mut Sim, target: &str, address: &str| {
        let wish = wish(target, address);
        admission::attach_network(&sim.store, &node, wish, "c".repeat(64), sim.now, &mut sim.chance)
    };
    let refused = attach(&mut sim, "plain", "").unwrap_err();
    assert_eq!(refused.message, "network plain not manually attachable");
    assert!(sim.store.network(&plain).is_some());
    let (id, actions) = attach(&mut sim, "demo", "10.0.2.77").unwrap();
    sim.apply(actions);
    sim.settle();
    let task = sim.store.task(&id).unwrap();
    assert_eq!(addresses(task), ["10.0.2.77/24"]);
    assert_eq!(task.status.state, skep_types::TaskState::Assigned);
    let (again, actions) = attach(&mut sim, "demo", "10.0.2.77").unwrap();
    sim.apply(actions);
    sim.settle();
    assert_eq!(
        sim.store.task(&again).unwrap().status.err,
        "requested address 10.0.2.77 is not available on network demo"
    );
    let actions = admission::detach_network(&sim.store, &node, &id, sim.now).unwrap();
    sim.apply(actions);
    sim.settle();
    assert_eq!(addresses(sim.store.task(&again).unwrap()), ["10.0.2.77/24"]);
}
