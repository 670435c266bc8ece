//! Networks with fewer addresses than their tasks, services and nodes would like.

use skep_control::admission;
use skep_types::{
    EndpointSpec, IpamConfig, IpamOptions, NetworkId, NodeId, ReplicatedService, ResolutionMode,
    ServiceId, ServiceMode, ServiceSpec, TaskState,
};

use crate::sim::Sim;
use crate::sim::spec::{
    global, network, on_network, placement, port, publish, replicated, restart,
};

/// A network "small" with a subnet and a range within it, if not empty.
fn small(sim: &mut Sim, subnet: &str, range: &str) -> NetworkId {
    let config =
        IpamConfig { subnet: subnet.to_owned(), range: range.to_owned(), ..IpamConfig::default() };
    let mut spec = network("small");
    spec.attachable = true;
    spec.ipam = Some(IpamOptions { configs: vec![config], ..IpamOptions::default() });
    let (id, actions) =
        admission::create_network(&sim.store, spec, sim.now, &mut sim.chance).unwrap();
    sim.apply(actions);
    sim.settle();
    id
}

fn service(name: &str, replicas: u64, mode: ResolutionMode) -> ServiceSpec {
    let mut spec = replicated(name, replicas);
    spec.endpoint_spec = Some(EndpointSpec { mode, ..EndpointSpec::default() });
    on_network(&mut spec, "small");
    spec
}

fn scale(sim: &mut Sim, id: &ServiceId, replicas: u64) {
    sim.update(id, |spec| {
        spec.mode = ServiceMode::Replicated(ReplicatedService { replicas: Some(replicas) });
    });
}

/// Nodes with a load balancer on the network.
fn balanced(sim: &Sim, network: &NetworkId) -> Vec<NodeId> {
    let on = |node: &skep_types::Node| node.attachments.iter().any(|a| a.network.id == *network);
    sim.store.nodes().filter(|node| on(node)).map(|node| node.id.clone()).collect()
}

fn check_balanced(sim: &Sim, network: &NetworkId) {
    let balanced = balanced(sim, network);
    for task in sim.store.tasks_on_network(network) {
        if task.status.state >= TaskState::Assigned {
            assert!(balanced.contains(&task.node_id), "a task without its load balancer");
        }
    }
}

fn says(sim: &Sim, id: &ServiceId, text: &str) -> usize {
    let waiting = sim.wanted(id).into_iter().filter(|t| t.status.state == TaskState::Pending);
    waiting.inspect(|task| assert_eq!(task.status.err, text)).count()
}

fn text(network: &NetworkId, subnet: &str, size: u64) -> String {
    format!(
        "no available IPv4 addresses on this network's address pools: small ({network}): {subnet} has \
         {size}, shared by tasks, services' virtual addresses and a load balancer on every node that \
         has a task; scale down what is on the network, or use one with a larger subnet"
    )
}

#[test]
fn as_many_tasks_run_as_have_room_with_their_load_balancers() {
    use ResolutionMode::{Dnsrr, Vip};
    // Subnet, range, nodes, mode, replicas; addresses, tasks that run, nodes they are on.
    let cases = [
        ("10.9.0.0/29", "", 1, Dnsrr, 6, 5, 4, 1),
        ("10.9.0.0/29", "", 1, Vip, 6, 5, 3, 1),
        ("10.9.0.0/29", "", 3, Dnsrr, 2, 5, 2, 2),
        ("10.9.0.0/29", "", 3, Dnsrr, 6, 5, 3, 2),
        ("10.9.0.0/29", "", 3, Vip, 6, 5, 2, 2),
        ("10.9.0.0/30", "", 3, Dnsrr, 6, 1, 0, 0),
        ("10.9.0.0/30", "", 1, Vip, 1, 1, 0, 0),
        ("10.9.0.0/28", "", 3, Vip, 20, 13, 9, 3),
        ("10.9.0.0/24", "10.9.0.0/29", 3, Dnsrr, 20, 6, 3, 3),
        ("10.9.0.0/24", "10.9.0.128/30", 1, Dnsrr, 20, 4, 3, 1),
        ("10.9.0.0/24", "", 3, Dnsrr, 300, 253, 250, 3),
    ];
    for (subnet, range, nodes, mode, replicas, size, tasks, on) in cases {
        let case = format!("{subnet} {range} {nodes} {mode:?} {replicas}");
        let mut sim = Sim::new(1, nodes);
        let net = small(&mut sim, subnet, range);
        let web = sim.create(service("web", replicas, mode));
        sim.run(10);
        assert_eq!(sim.running(&web).len(), tasks, "{case}");
        assert_eq!(balanced(&sim, &net).len(), on, "{case}");
        check_balanced(&sim, &net);
        let waiting = usize::try_from(replicas).unwrap() - tasks;
        assert_eq!(says(&sim, &web, &text(&net, subnet, size)), waiting, "{case}");
        // Once said, nothing is written again.
        let before = sim.log.len();
        sim.run(120);
        assert_eq!(sim.log.len(), before, "{case}");
    }
}

#[test]
fn a_waiting_task_runs_by_itself_once_there_is_an_address() {
    let mut sim = Sim::new(1, 3);
    let net = small(&mut sim, "10.9.0.0/29", "");
    let first = sim.create(service("first", 1, ResolutionMode::Dnsrr));
    sim.run(10);
    let web = sim.create(service("web", 4, ResolutionMode::Dnsrr));
    sim.run(10);
    assert_eq!(sim.running(&web).len(), 2, "one on a node of its own, one beside the first");
    assert_eq!(says(&sim, &web, &text(&net, "10.9.0.0/29", 5)), 2);
    sim.remove(&first);
    sim.run(10);
    assert_eq!(sim.running(&web).len(), 3);
    check_balanced(&sim, &net);
    scale(&mut sim, &web, 1);
    sim.run(10);
    assert_eq!(sim.running(&web).len(), 1);
    scale(&mut sim, &web, 3);
    sim.run(10);
    assert_eq!(sim.running(&web).len(), 3);
    check_balanced(&sim, &net);
}

#[test]
fn a_task_without_a_node_keeps_no_address_from_others() {
    let mut sim = Sim::new(1, 1);
    small(&mut sim, "10.9.0.0/29", "");
    let mut nowhere = service("nowhere", 5, ResolutionMode::Dnsrr);
    placement(&mut nowhere).constraints = vec!["node.labels.disk==ssd".to_owned()];
    let nowhere = sim.create(nowhere);
    sim.run(5);
    assert_eq!(
        says(&sim, &nowhere, "no suitable node (scheduling constraints not satisfied on 1 node)"),
        5
    );
    let web = sim.create(service("web", 4, ResolutionMode::Dnsrr));
    sim.run(10);
    assert_eq!(sim.running(&web).len(), 4);
}

#[test]
fn reasons_of_nodes_and_addresses_are_said_together() {
    let mut sim = Sim::new(1, 3);
    let net = small(&mut sim, "10.9.0.0/29", "");
    let away = sim.nodes[2].clone();
    sim.set_node(&away, |node| node.spec.availability = skep_types::NodeAvailability::Drain);
    let web = sim.create(service("web", 6, ResolutionMode::Dnsrr));
    sim.run(10);
    let why = text(&net, "10.9.0.0/29", 5);
    let text = format!("no suitable node ({why}; 1 node not available for new tasks)");
    assert_eq!(says(&sim, &web, &text), 3);
}

#[test]
fn a_failed_task_on_a_full_network_comes_back() {
    let mut sim = Sim::new(1, 3);
    let net = small(&mut sim, "10.9.0.0/29", "");
    sim.images.insert("web:1".to_owned(), crate::sim::Behaviour::Crashes(20_000));
    let mut spec = service("web", 3, ResolutionMode::Dnsrr);
    restart(&mut spec).delay = Some(skep_types::Nanos::from_secs(1));
    let web = sim.create(spec);
    for _ in 0..20 {
        sim.run(7);
        check_balanced(&sim, &net);
    }
    sim.images.insert("web:1".to_owned(), crate::sim::Behaviour::Runs);
    sim.run(60);
    assert_eq!(sim.running(&web).len(), 3);
    check_balanced(&sim, &net);
}

#[test]
fn a_global_service_says_on_which_node_there_is_no_room() {
    let mut sim = Sim::new(1, 3);
    let net = small(&mut sim, "10.9.0.0/29", "");
    let mut spec = global("all");
    spec.endpoint_spec =
        Some(EndpointSpec { mode: ResolutionMode::Dnsrr, ..EndpointSpec::default() });
    on_network(&mut spec, "small");
    let all = sim.create(spec);
    sim.run(10);
    assert_eq!(sim.running(&all).len(), 2);
    assert_eq!(says(&sim, &all, &text(&net, "10.9.0.0/29", 5)), 1);
    let leaving = sim.running(&all)[0].node_id.clone();
    sim.set_node(&leaving, |node| node.spec.availability = skep_types::NodeAvailability::Drain);
    sim.run(10);
    assert_eq!(sim.running(&all).len(), 2, "the third node has what the drained one had");
    check_balanced(&sim, &net);
}

#[test]
fn a_container_that_wants_a_place_needs_its_load_balancer_too() {
    let mut sim = Sim::new(1, 2);
    let net = small(&mut sim, "10.9.0.0/29", "10.9.0.0/30");
    let attach = |sim: &mut Sim, node: usize, address: &str| {
        let wish = skep_types::NetworkAttachmentConfig {
            target: "small".to_owned(),
            addresses: vec![address.to_owned()],
            ..Default::default()
        };
        let node = sim.nodes[node].clone();
        let (id, actions) = admission::attach_network(
            &sim.store,
            &node,
            wish,
            "c".repeat(64),
            sim.now,
            &mut sim.chance,
        )
        .unwrap();
        sim.apply(actions);
        sim.settle();
        sim.store.task(&id).cloned().unwrap()
    };
    assert_eq!(attach(&mut sim, 0, "").status.state, TaskState::Assigned);
    // .2 and .3 are the task's and its node's; behind the range nothing is given unasked.
    let outside = attach(&mut sim, 0, "10.9.0.5");
    assert_eq!(outside.networks_attachments[0].addresses, ["10.9.0.5/29"]);
    let other = attach(&mut sim, 1, "10.9.0.6");
    assert_eq!(other.status.state, TaskState::Pending);
    assert_eq!(other.status.err, text(&net, "10.9.0.0/29", 2));
    check_balanced(&sim, &net);
}

#[test]
fn a_node_that_joins_a_full_ingress_network_comes_before_more_tasks() {
    let mut sim = Sim::new(1, 2);
    let ingress = sim.store.ingress_network().unwrap().id.clone();
    let web = {
        let mut spec = replicated("web", 300);
        publish(&mut spec, vec![port(80, 8080)]);
        sim.create(spec)
    };
    sim.run(10);
    assert_eq!(sim.running(&web).len(), 250, "253 without two nodes and a virtual address");
    let third = sim.add_node(3);
    sim.settle();
    assert!(!balanced(&sim, &ingress).contains(&third));
    let lost = sim.running(&web)[0].node_id.clone();
    scale(&mut sim, &web, 299);
    sim.run(5);
    // One task ends: its address is the node's, not that of a task that waited longer.
    let ended = sim.running(&web).into_iter().find(|task| task.node_id == lost).unwrap();
    let mut ended = skep_types::Task::clone(&ended);
    ended.status.state = TaskState::Failed;
    sim.apply(vec![skep_control::Action::Update(ended.into())]);
    sim.run(10);
    assert!(balanced(&sim, &ingress).contains(&third));
    assert_eq!(sim.running(&web).len(), 249);
    check_balanced(&sim, &ingress);
}
