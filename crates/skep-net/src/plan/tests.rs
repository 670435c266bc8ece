use super::*;
use crate::model::{
    Cluster, EndpointRecord, EndpointSpec, OverlayNetwork, OverlaySubnet, PeerRecord,
    PublishedPort, ServiceAttachment,
};
use crate::world::tests::{counter, spec, world};
use skep_types::Protocol;
use std::sync::Arc;

fn rules(lines: &[(&str, &[&str])]) -> Ruleset {
    let mut rules = Ruleset::default();
    for (chain, texts) in lines {
        let chain = rules.chain(chain);
        texts.iter().for_each(|t| chain.rule(*t));
    }
    rules
}

fn change(new: &Ruleset, old: &Ruleset) -> Option<Change> {
    new.change_from(&old.digest(), &new.digest())
}

#[test]
fn only_changed_chains_are_touched() {
    let old = rules(&[("a", &["accept"]), ("b", &["drop"]), ("gone", &["drop"])]);
    let new = rules(&[("a", &["accept"]), ("b", &["accept"]), ("fresh", &["drop"])]);
    assert_eq!(change(&old, &old), None);
    let Some(Change::Parts(script)) = change(&new, &old) else { panic!("a change") };
    assert!(!script.contains("delete table") && !script.contains("skep a"), "{script}");
    let order: Vec<&str> = script.lines().filter(|l| !l.starts_with(['t', '}'])).collect();
    assert_eq!(
        order,
        [
            " chain fresh {  }",
            "flush chain ip skep b",
            "flush chain ip skep gone",
            "delete chain ip skep gone",
            "add rule ip skep b accept",
            "add rule ip skep fresh drop",
        ]
    );
}

#[test]
fn where_chains_lead_is_changed_without_a_script() {
    let leading = |chains: &[(&str, u8)], other: &str| {
        let mut rules = rules(&[("other", &[other])]);
        for (name, count) in chains {
            let to = (0..*count).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
            rules.lead(&Turns::new(name, &to, None));
        }
        rules
    };
    let old = leading(&[("a", 2), ("b", 2), ("c", 0)], "accept");
    let led = |new: &Ruleset, old: &RulesetDigest| -> Vec<String> {
        new.led_elsewhere(old).iter().map(|turns| turns.name().to_owned()).collect()
    };
    for (new, names) in [
        ([("a", 3), ("b", 2), ("c", 0)], vec!["a"]),
        ([("a", 1), ("b", 0), ("c", 2)], vec!["a", "b", "c"]),
    ] {
        let new = leading(&new, "accept");
        assert_eq!(change(&new, &old), None);
        assert_eq!(led(&new, &old.digest()), names);
    }
    for (what, new, script, after) in [
        (
            "a chain more",
            leading(&[("a", 3), ("b", 2), ("c", 0), ("d", 2)], "accept"),
            vec![" chain d {  }", "add map ip skep d"],
            vec!["a", "d"],
        ),
        (
            "a chain less",
            leading(&[("a", 3), ("b", 2)], "accept"),
            vec!["flush chain ip skep c", "delete map ip skep c", "delete chain ip skep c"],
            vec!["a"],
        ),
        (
            "another rule too",
            leading(&[("a", 3), ("b", 2), ("c", 0)], "drop"),
            vec!["flush chain ip skep other", "add rule ip skep other drop"],
            vec!["a"],
        ),
    ] {
        let Some(Change::Parts(text)) = change(&new, &old) else { panic!("{what}") };
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with(['t', '}'])).collect();
        assert_eq!(lines.len(), script.len(), "{what}: {text}");
        assert!(lines.iter().zip(&script).all(|(line, start)| line.starts_with(start)), "{text}");
        let reached = new.digest().but_for_turns(&old.digest());
        assert_eq!(led(&new, &reached), after, "{what}");
        assert_eq!(new.change_from(&reached, &new.digest()), None, "{what}");
    }
    // As an earlier release noted it, which had no maps.
    let mut noted = serde_json::to_value(old.digest()).unwrap();
    for chain in noted["chains"].as_object_mut().unwrap().values_mut() {
        chain.as_object_mut().unwrap().remove("turns").unwrap();
    }
    let noted: RulesetDigest = serde_json::from_value(noted).unwrap();
    let Some(Change::Parts(text)) = old.change_from(&noted, &old.digest()) else { panic!("maps") };
    for name in ["a", "b", "c"] {
        let (flush, map) =
            (format!("flush chain ip skep {name}"), format!("add map ip skep {name}"));
        assert!(text.contains(&flush) && text.contains(&map), "{text}");
    }
    assert!(!text.contains("delete map"), "{text}");
    assert_eq!(led(&old, &old.digest().but_for_turns(&noted)), ["a", "b"]);
}

#[test]
fn an_empty_ruleset_only_deletes() {
    let script = Ruleset::default().replace();
    assert_eq!(script, "table ip skep\ndelete table ip skep\n");
}

/// A swarm of one with three tasks of a service, the last one leaving.
pub fn swarm() -> World {
    let mut world = world();
    let mut new_id = counter();
    let cluster = Cluster {
        node_name: "n".into(),
        data_path_addr: "192.0.2.1".parse().unwrap(),
        vxlan_port: 4789,
    };
    world.set_cluster(Some(cluster), 0, &mut new_id).unwrap();
    for (id, name, third, ingress) in
        [("ingressingress", "ingress", 0u8, true), ("ownownownown", "own", 1, false)]
    {
        let network = OverlayNetwork {
            id: id.into(),
            name: name.into(),
            created_unix_nanos: 0,
            subnets: vec![OverlaySubnet {
                subnet: Cidr::new(Ipv4Addr::new(10, 0, third, 0), 24).unwrap(),
                gateway: Ipv4Addr::new(10, 0, third, 1),
                vni: 4096 + u32::from(third),
            }],
            internal: false,
            attachable: true,
            ingress,
            lb_address: Some(Ipv4Addr::new(10, 0, third, 2)),
            options: Default::default(),
            labels: Default::default(),
        };
        world.put_overlay(network, &mut new_id).unwrap();
    }
    for n in 1..=3u8 {
        let spec = spec(u32::from(n));
        let id = spec.id.clone();
        world.create_sandbox(spec).unwrap();
        let on = |network: &str, third: u8, ports: Vec<PublishedPort>| EndpointSpec {
            network: network.into(),
            ipv4: Some(Ipv4Addr::new(10, 0, third, 10 + n)),
            service: Some(ServiceAttachment {
                id: "svc".into(),
                name: "web".into(),
                vip: Some(Ipv4Addr::new(10, 0, third, 9)),
                aliases: Vec::new(),
                ingress_ports: ports,
            }),
            ..EndpointSpec::default()
        };
        let port = PublishedPort {
            name: String::new(),
            protocol: Protocol::Tcp,
            target: 80,
            published: 8080,
        };
        world
            .connect(
                &id,
                vec![on("ingress", 0, vec![port]), on("own", 1, Vec::new())],
                0,
                &mut new_id,
            )
            .unwrap();
        world.set_rotation(&id, true).unwrap();
        if n == 3 {
            world.set_rotation(&id, false).unwrap();
        }
    }
    world
}

#[test]
fn the_mesh_of_a_swarm_of_one() {
    let world = swarm();
    let plans = plan(&world);
    let names: Vec<String> = plans.keys().map(ToString::to_string).collect();
    assert_eq!(names.len(), 1 + 2 + 1 + 1 + 3, "{names:?}");
    let mesh = plans[&NsName::Ingress].ruleset().replace();
    assert!(
        mesh.contains(
            "tcp-8080 meta l4proto tcp dnat to numgen inc mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }:80"
        ),
        "{mesh}"
    );
    assert!(!mesh.contains("10.0.0.13"), "{mesh}");
    let host = plans[&NsName::Host].ruleset().replace();
    for rule in [
        "published meta l4proto . th dport vmap { tcp . 8080 : goto tcp-8080 }",
        "tcp-8080 meta l4proto tcp dnat ip to numgen inc mod 2 map \
         { 0 : 172.18.0.3 . 80, 1 : 172.18.0.4 . 80 }",
    ] {
        assert!(host.contains(rule), "{rule} is not in {host}");
    }
    assert!(!host.contains("172.18.0.5"), "{host}");
    let task = &plans[&NsName::Sandbox(spec(1).id)];
    let text = task.ruleset().replace();
    assert!(
        text.contains("iifname \"eth0\" ip daddr 10.0.0.11 tcp dport 8080 redirect to :80"),
        "{text}"
    );
    for rule in [
        "nat-prerouting iifname \"eth2\" ip daddr 172.18.0.3 tcp dport 80 socket wildcard { 0, 1 } accept",
        "nat-prerouting iifname \"eth2\" ip daddr 172.18.0.3 tcp dport 80 dnat to 10.0.0.11",
        "zones iifname \"eth0\" ct original zone set ether saddr map { 02:42:0a:00:00:02 : 0x2 }",
        "remember iifname \"eth0\" ct state new ct mark set ether saddr map \
         { 02:42:0a:00:00:02 : 0x5ce00002 } meta mark set ct mark",
    ] {
        assert!(text.contains(rule), "{rule} is not in {text}");
    }
    assert_eq!(task.marks, [0x5ce0_0000, 0x5ce0_0002]);
    let interfaces: Vec<(&str, u16)> =
        task.cables.iter().map(|c| (c.interface.as_str(), c.mtu)).collect();
    assert_eq!(interfaces, [("eth0", 1450), ("eth1", 1450), ("eth2", 1500)]);
    assert_eq!(task.routes[0].interface, "eth2");
    let balancer = &plans[&NsName::Balancer("ownownownown".into())];
    let addresses: Vec<String> =
        balancer.cables[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.1.2/24", "10.0.1.9/32"]);
}

#[test]
fn tasks_that_differ_redirect_the_published_port_themselves() {
    let mut world = swarm();
    let second = spec(2).id;
    let sandbox = world.sandbox_mut(&second).expect("the second task");
    for endpoint in &mut sandbox.endpoints {
        for port in endpoint.service.iter_mut().flat_map(|s| &mut s.ingress_ports) {
            port.target = 81;
        }
    }
    let plans = plan(&world);
    let mesh = plans[&NsName::Ingress].ruleset().replace();
    let rule = "tcp-8080 dnat to numgen inc mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }\n";
    assert!(mesh.contains(rule), "{mesh}");
    let task = plans[&NsName::Sandbox(second)].ruleset().replace();
    for rule in [
        "ip daddr 10.0.0.12 tcp dport 8080 redirect to :81",
        "ip daddr 10.0.0.12 tcp dport 81 accept",
    ] {
        assert!(task.contains(rule), "{task}");
    }
}

#[test]
fn tasks_of_other_hosts_have_their_turns_in_the_mesh() {
    let mut world = swarm();
    for n in [21, 22] {
        let record = EndpointRecord {
            service_id: "svc".to_owned(),
            service_name: "web".to_owned(),
            endpoint_ip: Ipv4Addr::new(10, 0, 0, n),
            ingress_ports: vec![PublishedPort {
                name: String::new(),
                protocol: Protocol::Tcp,
                target: 80,
                published: 8080,
            }],
            name: format!("web.{n}"),
            vip: None,
            aliases: Vec::new(),
            task_aliases: Vec::new(),
            disabled: false,
        };
        world
            .running
            .remote_endpoints
            .insert(("ingressingress".into(), format!("far{n}").as_str().into()), record);
    }
    let rules = |world: &World, ns| plan(world)[&ns].ruleset().replace();
    let both = "numgen inc mod 2 map { 0 : 10.0.0.21, 1 : 10.0.0.22 }:80";
    for (rule, ns) in [
        (
            "numgen inc mod 4 map { 0 : 172.18.0.3 . 80, 1 : 172.18.0.4 . 80, \
             2 : 172.18.0.2 . 8080, 3 : 172.18.0.2 . 8080 }",
            NsName::Host,
        ),
        (both, NsName::Ingress),
    ] {
        let text = rules(&world, ns);
        assert!(text.contains(rule), "{rule} is not in {text}");
    }
    // Without a task here everything goes one way, and needs no turns on the host.
    for n in [1, 2] {
        world.set_rotation(&spec(n).id, false).unwrap();
    }
    let text = rules(&world, NsName::Host);
    assert!(text.contains("map { tcp . 8080 : 172.18.0.2 . 8080 }"), "{text}");
    assert!(rules(&world, NsName::Ingress).contains(both));
}

#[test]
fn the_same_world_has_the_same_plan() {
    assert_eq!(plan(&swarm()), plan(&swarm()));
}

#[test]
fn what_every_container_of_a_network_has_is_held_once() {
    let plans = plan(&swarm());
    let vip = Some(Ipv4Addr::new(10, 0, 1, 9));
    let backends: Vec<_> = (1..=3u32)
        .map(|n| {
            let mut flows = plans[&NsName::Sandbox(spec(n).id)].flows();
            &flows.find(|flow| flow.address == vip).expect("the service's flow").backends
        })
        .collect();
    assert!(backends.iter().all(|b| Arc::ptr_eq(b, backends[0])));
    let rules = |n| plans[&NsName::Sandbox(spec(n).id)].ruleset();
    let (one, other) = (rules(1), rules(2));
    let turns = |rules: &Ruleset| {
        rules.turns().find(|turns| turns.name() == "vip-10-0-1-9").map(Arc::clone).expect("turns")
    };
    assert!(turns(&one).turns().contains(&Ipv4Addr::new(10, 0, 1, 11)), "{one:?}");
    assert!(Arc::ptr_eq(&turns(&one), &turns(&other)));
}

#[test]
fn what_is_remembered_makes_no_other_plan() {
    let mut planner = Planner::default();
    let mut check = |world: &World, what: &str| {
        assert_eq!(planner.plan(world, &world.services()), plan(world), "{what}");
    };
    let mut world = swarm();
    check(&world, "at first");
    check(&world, "again");
    let other = PeerRecord {
        endpoint_ip: "10.0.0.7/24".parse().unwrap(),
        endpoint_mac: Mac::of(Ipv4Addr::new(10, 0, 0, 7)),
        tunnel_endpoint_ip: "192.0.2.2".parse().unwrap(),
    };
    type Step<'a> = (&'a str, &'a dyn Fn(&mut World));
    let steps: [Step<'_>; 10] = [
        ("a task leaves", &|w| w.set_rotation(&spec(1).id, false).unwrap()),
        ("a load balancer more", &|w| {
            let key = ("ingressingress".into(), "far".into());
            w.running.remote_peers.insert(key, other.clone());
        }),
        ("a task's resolver", &|w| w.sandbox_mut(&spec(2).id).unwrap().dns_ports = Some((1, 2))),
        ("another MTU below", &|w| w.facts.underlay_mtu = 1400),
        ("another MTU", &|w| w.facts.mtu = 1400),
        ("no socket match", &|w| w.facts.socket_match = false),
        ("a container more", &|w| w.create_sandbox(spec(4)).unwrap()),
        ("one less", &|w| drop(w.running.sandboxes.remove(&spec(2).id))),
        ("a bridge without talk", &|w| {
            for network in w.networks.values_mut() {
                let key = "com.docker.network.bridge.enable_icc".to_owned();
                network.options.insert(key, "false".to_owned());
            }
        }),
        ("no swarm", &|w| w.running.cluster = None),
    ];
    for (what, step) in steps {
        step(&mut world);
        check(&world, what);
    }
}

#[test]
fn a_container_that_did_not_change_keeps_its_plan() {
    let mut planner = Planner::default();
    let mut world = swarm();
    let mut plans = |world: &World| planner.plan(world, &world.services());
    let before = plans(&world);
    world.set_rotation(&spec(1).id, false).unwrap();
    let after = plans(&world);
    let same = |n: u32| {
        let name = NsName::Sandbox(spec(n).id);
        std::ptr::eq(&*before[&name], &*after[&name])
    };
    assert!(!same(1) && same(2) && same(3));
    assert_ne!(before[&NsName::Sandbox(spec(2).id)], after[&NsName::Sandbox(spec(2).id)]);
}

#[test]
fn a_port_that_is_not_ours_is_left_alone() {
    let mut world = swarm();
    world.facts.blocked_ports.insert((Protocol::Tcp, 8080));
    assert!(!plan(&world)[&NsName::Host].ruleset().replace().contains("8080"));
}

#[test]
fn nothing_is_left_of_what_went() {
    let mut world = swarm();
    world.running.sandboxes.clear();
    let plans = plan(&world);
    let names: Vec<String> = plans.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["host", "1-ingressing", "ingress_sbox"]);
    assert!(plans[&NsName::Ingress].rules.is_empty());
    assert!(plans[&NsName::Host].ports.len() == 1, "only the mesh's own");
}

#[test]
fn only_nodes_of_the_swarm_may_send_into_overlays() {
    let host = |world: &World| plan(world).remove(&NsName::Host).expect("a host").ruleset();
    let mut world = swarm();
    let alone = host(&world);
    let text = alone.replace();
    assert!(text.contains("tunnel udp dport 4789 counter drop"), "{text}");
    assert!(!text.contains("tunnel-peers ip saddr"), "{text}");
    for rule in [
        "tunnel-in ip daddr 192.0.2.1 udp dport 4789 notrack",
        "tunnel-out ip saddr 192.0.2.1 udp dport 4789 notrack",
    ] {
        assert!(text.contains(rule), "{rule} is not in {text}");
    }
    let peer = |node: &str, address: &str| PeerRecord {
        endpoint_ip: address.parse().unwrap(),
        endpoint_mac: Mac::of(Ipv4Addr::new(10, 0, 0, 7)),
        tunnel_endpoint_ip: node.parse().unwrap(),
    };
    for (endpoint, record) in [
        ("ep1", peer("192.0.2.2", "10.0.0.7/24")),
        ("ep2", peer("192.0.2.2", "10.0.0.8/24")),
        ("ep3", peer("192.0.2.3", "10.0.0.9/24")),
        // Nobody has this host's own address but this host.
        ("ep4", peer("192.0.2.1", "10.0.0.10/24")),
    ] {
        world.running.remote_peers.insert(("ingressingress".into(), endpoint.into()), record);
    }
    let three = host(&world);
    let Some(Change::Parts(change)) = change(&three, &alone) else { panic!("a change") };
    assert!(change.contains("tunnel-peers ip saddr { 192.0.2.2, 192.0.2.3 } accept"), "{change}");
    assert!(!change.contains("skep tunnel "), "the counter begins anew: {change}");
    world.running.cluster = None;
    assert!(!host(&world).replace().contains("tunnel"));
}
