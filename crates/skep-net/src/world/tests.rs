use super::*;
use crate::config::AddressPool;
use crate::error::NetError;
use crate::model::{
    Driver, EndpointRecord, EndpointSpec, IpamSpec, NetworkCreate, PeerRecord, RemoteChange,
    SandboxMode, option_keys,
};
use proptest::prelude::*;
use skep_types::RouteKind;
use std::collections::BTreeMap;

pub fn world() -> World {
    let mut world = World::new(Facts {
        mtu: 1500,
        underlay_mtu: 1500,
        pools: AddressPool::docker_defaults(),
        host_routes: vec![
            route("172.19.0.0/24", "eth1", RouteKind::Connected),
            route("0.0.0.0/0", "eth0", RouteKind::Routed),
        ],
        default_binding: Ipv4Addr::UNSPECIFIED,
        blocked_ports: BTreeSet::new(),
        socket_match: true,
        claims: BTreeMap::new(),
        owner: String::new(),
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

pub fn route(destination: &str, interface: &str, kind: RouteKind) -> HostRoute {
    let destination: Cidr = destination.parse().unwrap();
    HostRoute {
        destination: destination.addr(),
        prefix: destination.prefix(),
        interface: interface.to_owned(),
        kind,
    }
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
fn routes_of_the_host_are_gone_round_and_not_hidden() {
    let (eth, vpn) = (RouteKind::Connected, RouteKind::Routed);
    let (own, dns) = (RouteKind::Address, RouteKind::NameServer);
    type Routes<'a> = &'a [(&'a str, RouteKind)];
    // Routes; what a network without a subnet gets.
    let automatic: [(Routes<'_>, Option<&str>); 10] = [
        (&[], Some("172.18.0.0/16")),
        (&[("0.0.0.0/1", vpn), ("128.0.0.0/1", vpn)], Some("172.18.0.0/16")),
        (&[("172.18.7.0/24", vpn), ("172.16.0.0/13", eth)], Some("172.24.0.0/16")),
        (&[("172.16.0.0/12", vpn)], Some("192.168.0.0/20")),
        (&[("172.16.0.0/12", vpn), ("192.168.0.0/20", eth)], Some("192.168.16.0/20")),
        // All of them are routed somewhere: then a piece of a wide route, and not an interface's subnet.
        (&[("172.16.0.0/12", vpn), ("192.168.0.0/16", eth)], Some("172.18.0.0/16")),
        (&[("172.16.0.0/12", eth), ("192.168.0.0/16", eth)], None),
        (&[("172.18.255.1/32", own), ("172.19.0.0/24", own)], Some("172.20.0.0/16")),
        (&[("172.18.0.53/32", dns)], Some("172.19.0.0/16")),
        // Where all is routed, a name server's subnet is not taken even so.
        (
            &[("172.16.0.0/12", vpn), ("192.168.0.0/16", vpn), ("172.18.0.53/32", dns)],
            Some("172.19.0.0/16"),
        ),
    ];
    let routes = |list: Routes<'_>| -> Vec<HostRoute> {
        list.iter().map(|(destination, kind)| route(destination, "x", *kind)).collect()
    };
    for (list, expected) in automatic {
        let mut world = world();
        world.facts.host_routes = routes(list);
        match (create(&mut world, "n", None), expected) {
            (Ok(network), Some(expected)) => {
                assert_eq!(network.subnets[0].subnet.to_string(), expected, "{list:?}");
            }
            (Err(NetError::PoolsExhausted), None) => {}
            (other, _) => panic!("{list:?}: {other:?}"),
        }
    }
    // Route, subnet, whether a user may have it nevertheless, and what is then said.
    let explicit = [
        ("10.1.0.0/24", vpn, "10.1.0.0/24", false),
        ("10.1.0.0/24", vpn, "10.1.0.0/16", false),
        ("10.1.0.0/16", eth, "10.1.3.0/24", false),
        ("10.0.0.0/8", vpn, "10.1.3.0/24", true),
        ("0.0.0.0/0", vpn, "10.1.3.0/24", true),
        ("10.1.3.0/24", own, "10.1.3.128/25", false),
        ("10.1.3.9/32", own, "10.1.3.0/24", false),
    ];
    for (destination, kind, subnet, allowed) in explicit {
        let mut world = world();
        world.facts.host_routes = routes(&[(destination, kind)]);
        let made = create(&mut world, "n", Some(subnet));
        assert_eq!(made.is_ok(), allowed, "{destination} {subnet}");
        if let Err(error) = made {
            assert_eq!(
                error.to_string(),
                format!(
                    "invalid pool request: Pool overlaps with other one on this address space: {subnet} \
                     with {}: choose another subnet, or take that away first",
                    route(destination, "x", kind)
                )
            );
            assert_eq!(error.kind(), crate::error::ErrorKind::Forbidden);
            assert_eq!(world.networks.len(), 1);
        } else if destination == "10.0.0.0/8" {
            assert_eq!(
                world.collisions(),
                [format!(
                    "network n ({subnet}) and this host's route to 10.0.0.0/8 over x overlap: \
                     addresses in both are reached on one side only; give one of the two another \
                     place"
                )]
            );
        } else {
            assert_eq!(world.collisions(), [""; 0]);
        }
    }
}

#[test]
fn a_name_server_may_be_in_a_network_that_is_asked_for() {
    let server = |address: &str| route(&format!("{address}/32"), "", RouteKind::NameServer);
    let mut world = world();
    world.facts.host_routes =
        ["172.17.0.1", "10.1.3.1", "10.1.3.2", "10.1.3.9"].map(server).to_vec();
    create(&mut world, "n", Some("10.1.3.0/24")).unwrap();
    let spec = spec(1);
    let id = spec.id.clone();
    world.create_sandbox(spec).unwrap();
    let wish = EndpointSpec { network: "n".into(), ..EndpointSpec::default() };
    world.connect(&id, vec![wish], 0, &mut counter()).unwrap();
    // What listens at a gateway, and a container, 10.1.3.2, are there on purpose.
    assert_eq!(
        world.collisions(),
        [
            "network n (10.1.3.0/24) and this host's name server 10.1.3.9 overlap: addresses in both are \
          reached on one side only; give one of the two another place"
        ]
    );
    world.facts.host_routes = vec![server("10.2.0.53")];
    world.check_overlay(&"10.2.0.0/24".parse().unwrap()).unwrap();
}

#[test]
fn a_bridge_that_was_there_brings_its_route() {
    let mut world = world();
    world.facts.host_routes = vec![route("10.1.0.0/24", "br-lab", RouteKind::Connected)];
    assert!(create(&mut world, "n", Some("10.1.0.0/24")).is_err());
    let request = NetworkCreate {
        name: "n".to_owned(),
        ipam: vec![IpamSpec { subnet: "10.1.0.0/24".parse().ok(), ..IpamSpec::default() }],
        options: BTreeMap::from([(option_keys::BRIDGE_NAME.to_owned(), "br-lab".to_owned())]),
        ..NetworkCreate::default()
    };
    world.create_network("n".repeat(64).into(), 0, request).unwrap();
}

#[test]
fn subnets_that_the_kernel_takes_for_no_host_s_are_refused() {
    let mut world = world();
    for subnet in ["127.0.0.0/8", "224.0.0.0/8", "255.255.255.0/24"] {
        let refused = create(&mut world, "n", Some(subnet)).unwrap_err();
        assert_eq!(refused.kind(), crate::error::ErrorKind::InvalidParameter, "{refused}");
        assert!(refused.to_string().starts_with(&format!("subnet: {subnet}: it has")), "{refused}");
    }
    create(&mut world, "n", Some("169.254.0.0/16")).unwrap();
}

#[test]
fn overlays_stay_away_from_routes_and_the_way_out() {
    let mut world = world();
    world.facts.host_routes = vec![route("10.1.0.0/16", "eth1", RouteKind::Connected)];
    world.ensure_gateway_network("9".repeat(64).into(), 0).unwrap();
    let check = |subnet: &str| world.check_overlay(&subnet.parse().unwrap());
    assert!(check("10.1.2.0/24").is_err());
    assert!(check("10.2.0.0/24").is_ok());
    let error = check("172.18.0.0/24").unwrap_err().to_string();
    assert!(error.contains("172.18.0.0/16 over docker_gwbridge"), "{error}");
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

#[test]
fn a_silent_node_gets_nothing_new_but_the_way_to_it_stays() {
    let (network, task, lb) =
        (NetworkId::new("net1"), EndpointId::new("task"), EndpointId::new("lb"));
    let key = |endpoint: &EndpointId| (network.clone(), endpoint.clone());
    let peer = |address: &str| PeerRecord {
        endpoint_ip: format!("{address}/24").parse().unwrap(),
        endpoint_mac: "02:42:0a:00:01:05".parse().unwrap(),
        tunnel_endpoint_ip: "192.0.2.1".parse().unwrap(),
    };
    let says = |endpoint: &EndpointId, address: &str| {
        RemoteChange::Peer(network.clone(), endpoint.clone(), Some(peer(address)))
    };
    let record = EndpointRecord {
        name: "web.1".into(),
        service_name: "web".into(),
        service_id: "svc".into(),
        vip: None,
        endpoint_ip: Ipv4Addr::new(10, 0, 1, 5),
        ingress_ports: Vec::new(),
        aliases: Vec::new(),
        task_aliases: Vec::new(),
        disabled: false,
    };
    let serves = RemoteChange::Endpoint(network.clone(), task.clone(), Some(record));
    let silent = |endpoint: &EndpointId| RemoteChange::Silent(network.clone(), endpoint.clone());
    let mut world = world();
    let start = vec![serves.clone(), says(&task, "10.0.1.5"), says(&lb, "10.0.1.3")];
    world.apply_remote(start.clone());
    // Once for each of its records, in any order; one that was never heard of leaves nothing.
    let unknown = EndpointId::new("unknown");
    world.apply_remote([&lb, &task, &task, &unknown].map(silent).to_vec());
    assert!(world.running.remote_endpoints.is_empty());
    assert_eq!(world.running.remote_peers.len(), 2);
    assert_eq!(world.running.silent, BTreeMap::from([(key(&task), true), (key(&lb), false)]));
    // It speaks again.
    world.apply_remote(start);
    assert_eq!(world.running.remote_endpoints.len(), 1);
    assert!(world.running.silent.is_empty());
    // Somebody else has its address.
    world.apply_remote(vec![silent(&task), silent(&lb), says(&unknown, "10.0.1.5")]);
    assert_eq!(world.running.silent, BTreeMap::from([(key(&lb), false)]));
    let left: Vec<_> = world.running.remote_peers.keys().cloned().collect();
    assert_eq!(left, [key(&lb), key(&unknown)]);
    world.apply_remote(vec![RemoteChange::Peer(network.clone(), lb.clone(), None)]);
    assert!(world.running.silent.is_empty());
}

#[test]
fn a_service_of_silent_nodes_alone_is_still_led_to_them_for_a_moment() {
    let mut world = crate::plan::tests::swarm();
    let network = NetworkId::new("ownownownown");
    let vip = Ipv4Addr::new(10, 0, 1, 99);
    let task = |n: u8, disabled| {
        let (endpoint, address) = (EndpointId::new(format!("far{n}")), Ipv4Addr::new(10, 0, 1, n));
        let record = EndpointRecord {
            name: format!("far.{n}"),
            service_name: "far".into(),
            service_id: "far".into(),
            vip: Some(vip),
            endpoint_ip: address,
            ingress_ports: Vec::new(),
            aliases: Vec::new(),
            task_aliases: Vec::new(),
            disabled,
        };
        let peer = PeerRecord {
            endpoint_ip: format!("{address}/24").parse().unwrap(),
            endpoint_mac: Mac::of(address),
            tunnel_endpoint_ip: "192.0.2.9".parse().unwrap(),
        };
        vec![
            RemoteChange::Endpoint(network.clone(), endpoint.clone(), Some(record)),
            RemoteChange::Peer(network.clone(), endpoint, Some(peer)),
        ]
    };
    let silent = |n: u8| {
        let endpoint = EndpointId::new(format!("far{n}"));
        RemoteChange::Silent(network.clone(), endpoint)
    };
    let gone =
        |n: u8| RemoteChange::Endpoint(network.clone(), format!("far{n}").as_str().into(), None);
    let led = |world: &World| -> Vec<u8> {
        let services = world.services();
        let far = services.by_network[&network].get("far");
        let named = world.records().iter().filter(|(_, record)| record.service_id == "far").count();
        let backends = far.map(|far| far.backends.clone()).unwrap_or_default();
        assert!(named >= backends.len(), "{named} names");
        assert!(far.is_none_or(|far| far.vip == Some(vip)));
        backends.iter().map(|address| address.octets()[3]).collect()
    };
    let say = |changes: Vec<RemoteChange>, world: &mut World| {
        world.apply_remote(changes);
        led(world)
    };
    let both = [task(100, false), task(101, false)].concat();
    assert_eq!(say(both.clone(), &mut world), [100, 101]);
    // Others are there.
    assert_eq!(say(vec![silent(100), silent(100)], &mut world), [101]);
    // Nobody else is.
    assert_eq!(say(vec![silent(101)], &mut world), [100, 101]);
    // One speaks again, and one is there that is on its way out.
    assert_eq!(say(task(100, false), &mut world), [100]);
    assert_eq!(say(task(100, true), &mut world), [101]);
    // Long enough.
    assert!(say(vec![gone(101)], &mut world).is_empty());
    // Who was on its way out when it fell silent is not led to, nor who said that it is gone.
    assert!(say(vec![silent(100)], &mut world).is_empty());
    say(both, &mut world);
    assert_eq!(say(vec![gone(100), silent(100), silent(101)], &mut world), [101]);
    // Another service is none of it.
    assert!(world.services().by_network[&network].contains_key("svc"));
}
