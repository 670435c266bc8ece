use skep_control::admission;
use skep_types::{Driver, ErrorKind, IpamConfig, IpamOptions, NetworkSpec};

use crate::sim::Sim;
use crate::sim::spec::{network, on_network, port, publish, replicated};

fn with_subnet(name: &str, subnet: &str) -> NetworkSpec {
    let config = IpamConfig { subnet: subnet.to_owned(), ..IpamConfig::default() };
    NetworkSpec {
        ipam: Some(IpamOptions { configs: vec![config], ..IpamOptions::default() }),
        ..network(name)
    }
}

#[test]
fn refusals() {
    let mut sim = Sim::new(1, 1);
    let (_, actions) = admission::create_network(
        &sim.store,
        with_subnet("demo", "10.9.0.0/24"),
        sim.now,
        &mut sim.chance,
    )
    .unwrap();
    sim.apply(actions);
    let bridge = Driver { name: "bridge".to_owned(), ..Driver::default() };
    let encrypted =
        Driver { options: [("encrypted".to_owned(), String::new())].into(), ..Driver::default() };
    let cases = [
        (
            NetworkSpec { driver_configuration: encrypted, ..network("x") },
            "overlay network option \"encrypted\" is not supported yet: leave it out",
        ),
        (network(""), "meta: name must be provided"),
        (network("-x"), "name must be valid as a DNS name component: -x"),
        (network("demo"), "network with name demo already exists"),
        (
            NetworkSpec { driver_configuration: bridge, ..network("x") },
            "driver \"bridge\" cannot make networks of a swarm: only \"overlay\" can",
        ),
        (
            NetworkSpec { ingress: true, ..network("x") },
            "ingress network (ingress) is already present",
        ),
        (
            with_subnet("x", "10.9.0.128/25"),
            "invalid pool request: Pool overlaps with other one on this address space: \
             10.9.0.128/25 is in use by network demo",
        ),
        (with_subnet("x", "10.9.1.7/24"), "invalid subnet 10.9.1.7/24: it should be 10.9.1.0/24"),
        (
            with_subnet("x", "127.0.0.0/8"),
            "invalid subnet 127.0.0.0/8: it has loopback addresses (127.0.0.0/8)",
        ),
        (with_subnet("x", "nonsense"), "invalid subnet nonsense: invalid CIDR address"),
        (
            with_subnet("x", "fd00::/64"),
            "invalid subnet fd00::/64: overlay networks have IPv4 subnets only",
        ),
    ];
    for (spec, message) in cases {
        let error =
            admission::create_network(&sim.store, spec, sim.now, &mut sim.chance).unwrap_err();
        assert_eq!(error.message, message);
    }
}

#[test]
fn automatic_subnets_avoid_the_users() {
    let mut sim = Sim::new(1, 1);
    for spec in [with_subnet("own", "10.0.1.0/24"), network("auto")] {
        let (_, actions) =
            admission::create_network(&sim.store, spec, sim.now, &mut sim.chance).unwrap();
        sim.apply(actions);
        sim.settle();
    }
    let auto = sim.store.network_named("auto").unwrap();
    assert_eq!(auto.ipam.as_ref().unwrap().configs[0].subnet, "10.0.2.0/24");
}

#[test]
fn removal() {
    let mut sim = Sim::new(1, 1);
    let (id, actions) =
        admission::create_network(&sim.store, network("demo"), sim.now, &mut sim.chance).unwrap();
    sim.apply(actions);
    let mut spec = replicated("web", 1);
    on_network(&mut spec, "demo");
    publish(&mut spec, vec![port(80, 8080)]);
    let web = sim.create(spec);
    sim.run(5);
    let error = admission::remove_network(&sim.store, &id, sim.now).unwrap_err();
    assert_eq!(error.message, format!("network {id} is in use by service {web}"));
    assert_eq!(error.kind, ErrorKind::FailedPrecondition);
    let ingress = sim.store.ingress_network().unwrap().id.clone();
    let error = admission::remove_network(&sim.store, &ingress, sim.now).unwrap_err();
    assert_eq!(
        error.message,
        format!("ingress network cannot be removed because service {web} depends on it")
    );
    let host = sim.store.network_named("host").unwrap().id.clone();
    let error = admission::remove_network(&sim.store, &host, sim.now).unwrap_err();
    assert_eq!(error.message, "host is a pre-defined network and cannot be removed");

    // As `stack rm` does: the service, and the network in the next breath.
    sim.remove(&web);
    let actions = admission::remove_network(&sim.store, &id, sim.now).unwrap();
    sim.apply(actions);
    // Its subnet and VXLAN id stay taken while the task still runs.
    let (other, actions) =
        admission::create_network(&sim.store, network("other"), sim.now, &mut sim.chance).unwrap();
    sim.apply(actions);
    sim.change_leader();
    sim.settle();
    let other = sim.store.network(&other).unwrap();
    assert_eq!(other.ipam.as_ref().unwrap().configs[0].subnet, "10.0.2.0/24");
    sim.run(5);
    assert_eq!(sim.store.task_count(), 0);
}

#[test]
fn a_small_pool_runs_out_and_the_task_says_so() {
    let mut sim = Sim::new(1, 1);
    let mut cluster = skep_types::Cluster::clone(sim.store.cluster().unwrap());
    cluster.default_addr_pool = vec!["10.0.0.0/23".to_owned()];
    sim.apply(vec![skep_control::Action::Update(cluster.into())]);
    for name in ["one", "two"] {
        let (_, actions) =
            admission::create_network(&sim.store, network(name), sim.now, &mut sim.chance).unwrap();
        sim.apply(actions);
        sim.settle();
    }
    let mut spec = replicated("web", 1);
    on_network(&mut spec, "two");
    let web = sim.create(spec);
    sim.settle();
    assert_eq!(
        sim.tasks(&web)[0].status.err,
        "could not find an available, non-overlapping IPv4 address pool among the defaults to \
         assign to the network two"
    );
    let one = sim.store.network_named("one").unwrap().id.clone();
    let actions = admission::remove_network(&sim.store, &one, sim.now).unwrap();
    sim.apply(actions);
    sim.run(5);
    assert_eq!(sim.running(&web).len(), 1);
}
