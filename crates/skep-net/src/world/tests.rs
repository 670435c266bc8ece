use super::*;
use crate::config::AddressPool;
use crate::error::NetError;
use crate::model::{Driver, EndpointSpec, IpamSpec, NetworkCreate, SandboxMode, option_keys};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub fn world() -> World {
    let mut world = World::new(Facts {
        mtu: 1500,
        underlay_mtu: 1500,
        pools: AddressPool::docker_defaults(),
        host_routes: vec!["172.19.0.0/24".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
        default_binding: Ipv4Addr::UNSPECIFIED,
        blocked_ports: BTreeSet::new(),
    });
    let options = BTreeMap::from([
        (option_keys::BRIDGE_NAME.to_owned(), "docker0".to_owned()),
        (option_keys::DEFAULT_BRIDGE.to_owned(), "true".to_owned()),
    ]);
    world
        .ensure_predefined("b0".repeat(32).into(), 0, "bridge", Driver::Bridge, options, None)
        .unwrap();
    world
}

pub fn spec(number: u32) -> SandboxSpec {
    let id = format!("{number:064x}").chars().rev().collect::<String>();
    SandboxSpec {
        id: SandboxId::new(id.clone()),
        container_id: id,
        container_name: format!("c{number}"),
        hostname: format!("h{number}"),
        domainname: String::new(),
        mode: SandboxMode::Isolated,
        dns: Default::default(),
        extra_hosts: Vec::new(),
        files_dir: Default::default(),
        ports: Vec::new(),
    }
}

pub fn counter() -> impl FnMut() -> String {
    let mut n = 0u64;
    move || {
        n += 1;
        format!("{n:064x}").chars().rev().collect()
    }
}

fn create(world: &mut World, name: &str, subnet: Option<&str>) -> crate::error::Result<Network> {
    let ipam = subnet
        .map(|s| IpamSpec { subnet: s.parse().ok(), ..IpamSpec::default() })
        .into_iter()
        .collect();
    let request = NetworkCreate { name: name.to_owned(), ipam, ..NetworkCreate::default() };
    world.create_network(format!("{name}-{}", "0".repeat(40)).into(), 0, request)
}

#[test]
fn pools_go_round_networks_and_routes() {
    let mut world = world();
    let subnets: Vec<String> = (0..3)
        .map(|n| create(&mut world, &format!("n{n}"), None).unwrap().subnets[0].subnet.to_string())
        .collect();
    // 172.17 is the default bridge's, 172.19 a route's.
    assert_eq!(subnets, ["172.18.0.0/16", "172.20.0.0/16", "172.21.0.0/16"]);
    assert!(matches!(
        create(&mut world, "x", Some("172.20.4.0/24")),
        Err(NetError::PoolOverlaps { .. })
    ));
    for (name, subnet) in
        [("a b", None), ("bridge", None), ("n0", None), ("y", Some("10.0.0.1/24"))]
    {
        assert!(create(&mut world, name, subnet).is_err(), "{name}");
    }
    assert_eq!(world.find_network("n0").unwrap().name, "n0");
    assert_eq!(world.find_network("n1-00").unwrap().name, "n1");
    assert!(matches!(world.find_network("n"), Err(NetError::NetworkAmbiguous { matches: 3, .. })));
}

#[test]
fn a_small_subnet_runs_out_and_recovers() {
    let mut world = world();
    create(&mut world, "tiny", Some("10.1.0.0/29")).unwrap();
    let mut new_id = counter();
    let mut ids = Vec::new();
    // .0 and .7 are the edges, .1 the gateway: five are left.
    for n in 0..5 {
        let spec = spec(n + 1);
        ids.push(spec.id.clone());
        world.create_sandbox(spec).unwrap();
        let wish = EndpointSpec { network: "tiny".into(), ..EndpointSpec::default() };
        world.connect(&ids[n as usize], vec![wish], 0, &mut new_id).unwrap();
    }
    let last = spec(99);
    let last_id = last.id.clone();
    world.create_sandbox(last).unwrap();
    let wish = || EndpointSpec { network: "tiny".into(), ..EndpointSpec::default() };
    let error = world.connect(&last_id, vec![wish()], 0, &mut new_id).unwrap_err();
    assert!(matches!(error, NetError::AddressesExhausted { .. }));
    assert!(world.sandbox(&last_id).unwrap().endpoints.is_empty());
    world.disconnect(&ids[2], "tiny", 0, &mut new_id).unwrap();
    world.connect(&last_id, vec![wish()], 0, &mut new_id).unwrap();
    assert_eq!(world.sandbox(&last_id).unwrap().endpoints[0].address.to_string(), "10.1.0.4/29");
}

#[test]
fn a_failed_list_of_networks_leaves_nothing() {
    let mut world = world();
    create(&mut world, "one", None).unwrap();
    let spec = spec(1);
    let id = spec.id.clone();
    world.create_sandbox(spec).unwrap();
    let on = |n: &str| EndpointSpec { network: n.into(), ..EndpointSpec::default() };
    let error = world.connect(&id, vec![on("one"), on("two")], 0, &mut counter()).unwrap_err();
    assert!(matches!(error, NetError::NetworkNotFound(_)));
    assert!(world.sandbox(&id).unwrap().endpoints.is_empty());
}

proptest! {
    /// No address is given twice, none is an edge or a gateway, and interfaces of a
    /// sandbox have names of their own, whatever comes and goes.
    #[test]
    fn no_address_twice(steps in prop::collection::vec((0u32..6, 0usize..3, any::<bool>()), 1..120)) {
        let mut world = world();
        let networks = ["bridge", "a", "b"];
        create(&mut world, "a", Some("10.1.0.0/29")).unwrap();
        create(&mut world, "b", None).unwrap();
        let mut new_id = counter();
        for n in 0..6 {
            world.create_sandbox(spec(n + 1)).unwrap();
        }
        for (who, network, join) in steps {
            let id = spec(who + 1).id;
            let wish = EndpointSpec { network: networks[network].into(), ..EndpointSpec::default() };
            // Being refused is fine; what is checked is the world afterwards.
            if join {
                let _ = world.connect(&id, vec![wish], 0, &mut new_id);
            } else {
                let _ = world.disconnect(&id, networks[network], 0, &mut new_id);
            }
            let mut seen = BTreeSet::new();
            for (_, endpoint) in world.endpoints() {
                prop_assert!(seen.insert((endpoint.network.clone(), endpoint.address)));
                let subnet = &world.networks[&endpoint.network].subnets[0];
                prop_assert!(subnet.gateway != Some(endpoint.address.addr()));
                prop_assert!(u32::from(endpoint.address.addr()) > subnet.subnet.first());
                prop_assert!(u32::from(endpoint.address.addr()) < subnet.subnet.last());
            }
            for sandbox in world.running.sandboxes.values() {
                let names: BTreeSet<_> = sandbox.endpoints.iter().map(|e| &e.interface).collect();
                prop_assert_eq!(names.len(), sandbox.endpoints.len());
            }
        }
    }
}

#[test]
fn running_state_survives_a_round_trip() {
    let mut world = world();
    let cluster = Cluster {
        node_name: "n".into(),
        data_path_addr: "192.0.2.1".parse().unwrap(),
        vxlan_port: 4789,
    };
    world.set_cluster(Some(cluster), 0, &mut counter()).unwrap();
    let record = EndpointRecord {
        name: "web.1".into(),
        service_name: "web".into(),
        service_id: "s".into(),
        vip: None,
        endpoint_ip: Ipv4Addr::new(10, 0, 1, 3),
        ingress_ports: Vec::new(),
        aliases: Vec::new(),
        task_aliases: Vec::new(),
        disabled: false,
    };
    world.running.remote_endpoints.insert(("n".into(), "e".into()), record);
    let json = serde_json::to_string(&world.running).unwrap();
    let back: Running = serde_json::from_str(&json).unwrap();
    assert_eq!(back.remote_endpoints, world.running.remote_endpoints);
    assert_eq!(back.cluster, world.running.cluster);
}
