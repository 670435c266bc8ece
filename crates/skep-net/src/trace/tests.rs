use super::eval::{Evaluation, Event, Manner, Ruling};
use super::packet::{Connection, Packet, Place};
use super::*;
use crate::model::{BlockedPorts, Cluster};
use crate::plan::{self, HostPlan};
use crate::world::World;
use crate::world::tests::{counter, world};
use serde_json::{Value, json};
use skep_types::Protocol;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Chain, handle and statements of a rule.
type Line = (&'static str, u64, Value);
/// Name, rules, port asked for, whether the destination is local; what is said, and
/// how many rules could not be judged.
type Case = (&'static str, Vec<Line>, u16, bool, &'static str, usize);

/// One base chain and others of table `ip skep`, as `nft -j` lists them.
fn tables(hook: Value, rules: &[(&str, u64, Value)]) -> Tables {
    let mut objects = vec![json!({ "chain": hook })];
    let mut named: Vec<&str> = rules.iter().map(|r| r.0).filter(|n| *n != "base").collect();
    named.dedup();
    for name in named {
        objects.push(json!({"chain": {"family": "ip", "table": "skep", "name": name}}));
    }
    for (chain, handle, expr) in rules {
        objects.push(json!({"rule": {"family": "ip", "table": "skep", "chain": chain,
            "handle": handle, "expr": expr}}));
    }
    let text = "table ip skep { # handle 2\n chain base { # handle 1\n  type nat hook prerouting \
                priority dstnat; policy accept;\n  a rule {\n   of two lines } # handle 7\n }\n}\n";
    Tables::parse(&json!({ "nftables": objects }).to_string(), text).expect("a listing")
}

fn nat(hook: &str) -> Value {
    json!({"family": "ip", "table": "skep", "name": "base", "handle": 1, "type": "nat",
        "hook": hook, "prio": -100, "policy": "accept"})
}

fn published() -> Value {
    json!([{"dnat": {"family": "ip", "addr": {"map": {
        "key": {"concat": [{"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]},
        "data": {"set": [[{"concat": ["tcp", 8080]}, {"concat": ["172.18.0.2", 8080]}]]}}}}}])
}

fn jump_if_local() -> Value {
    json!([{"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}},
        "right": "local"}}, {"jump": {"target": "published"}}])
}

fn turns() -> Value {
    json!([{"dnat": {"addr": {"map": {"key": {"numgen": {"mode": "inc", "mod": 2, "offset": 0}},
        "data": {"set": [[0, "10.0.0.4"], [1, "10.0.0.5"]]}}}}}])
}

fn packet(port: u16) -> Packet {
    Packet {
        source: None,
        destination: HOST,
        protocol: Protocol::Tcp,
        port,
        mac: None,
        mark: 0,
        connection: Connection::default(),
    }
}

fn link(index: u32, name: &str) -> LiveLink {
    LiveLink { index, name: name.to_owned(), up: true, carrier: true, ..LiveLink::default() }
}

fn live(tables: Tables) -> Live {
    let bridge = LiveLink { bridge: true, ..link(3, "docker0") };
    Live {
        tables,
        links: vec![link(1, "lo"), link(2, "eth0"), bridge],
        addresses: vec![
            (2, "10.77.0.1/24".parse().expect("address")),
            (3, "172.17.0.1/16".parse().expect("address")),
        ],
        forwards: true,
        ..Live::default()
    }
}

/// What the first chain of prerouting says, in a few words.
fn judge(rules: &[(&str, u64, Value)], packet: &mut Packet, local: bool) -> (String, usize) {
    let live = live(tables(nat("prerouting"), rules));
    let chains = live.tables.at("prerouting");
    let place = Place { incoming: Some("eth0".to_owned()), local, ..Place::default() };
    let mut evaluation = Evaluation { live: &live, packet, place, events: Vec::new() };
    let said = match evaluation.chain(chains[0].0) {
        Ruling::None => "none".to_owned(),
        Ruling::Accept => "accept".to_owned(),
        Ruling::Drop(by) => format!("drop {}", by.rule.handle),
        Ruling::Reject(by) => format!("reject {}", by.rule.handle),
        Ruling::Translate { to, manner, .. } => {
            let to: Vec<String> = to.iter().map(|(a, p)| format!("{a}:{p:?}")).collect();
            format!("{}{}", if manner == Manner::InTurn { "turns " } else { "" }, to.join(" "))
        }
        Ruling::Disguise { to, .. } => format!("disguise {to:?}"),
    };
    let unclear = evaluation.events.iter().filter(|e| matches!(e, Event::Unclear(_))).count();
    (said, unclear)
}

#[test]
fn rules_are_judged_as_the_kernel_does() {
    let from = |prefix: &str, length: u8| {
        json!([{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
            "right": {"prefix": {"addr": prefix, "len": length}}}}, {"drop": null}])
    };
    let port = |op: &str, right: Value| {
        json!([{"match": {"op": op, "left": {"payload": {"protocol": "tcp", "field": "dport"}},
            "right": right}}, {"drop": null}])
    };
    let interface = |right: Value| {
        json!([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": right}},
            {"reject": null}])
    };
    let state = |right: Value| {
        json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}},
            {"accept": null}])
    };
    let vmap = json!([{"vmap": {
        "key": {"concat": [{"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]},
        "data": {"set": [[{"concat": ["tcp", 8080]}, {"goto": {"target": "tcp-8080"}}]]}}}]);
    let redirect = json!([{"redirect": {"port": 80}}]);
    let cases: Vec<Case> = vec![
        ("no rule", vec![], 80, true, "none", 0),
        (
            "map",
            vec![("base", 7, jump_if_local()), ("published", 8, published())],
            8080,
            true,
            "172.18.0.2:Some(8080)",
            0,
        ),
        (
            "not in the map",
            vec![("base", 7, jump_if_local()), ("published", 8, published())],
            81,
            true,
            "none",
            0,
        ),
        (
            "not local",
            vec![("base", 7, jump_if_local()), ("published", 8, published())],
            8080,
            false,
            "none",
            0,
        ),
        (
            "in turn",
            vec![("base", 7, vmap.clone()), ("tcp-8080", 9, turns())],
            8080,
            true,
            "turns 10.0.0.4:None 10.0.0.5:None",
            0,
        ),
        ("other port", vec![("base", 7, vmap), ("tcp-8080", 9, turns())], 8081, true, "none", 0),
        ("redirect", vec![("base", 7, redirect)], 8080, true, "10.77.0.1:Some(80)", 0),
        (
            "range",
            vec![("base", 7, port("==", json!({"range": [8000, 8100]})))],
            8080,
            true,
            "drop 7",
            0,
        ),
        ("set", vec![("base", 7, port("!=", json!({"set": [22, 80]})))], 80, true, "none", 0),
        ("wildcard", vec![("base", 7, interface(json!("eth*")))], 80, true, "reject 7", 0),
        (
            "states",
            vec![("base", 7, state(json!(["established", "related"])))],
            80,
            true,
            "none",
            0,
        ),
        ("new", vec![("base", 7, state(json!("new")))], 80, true, "accept", 0),
        // An outside client is not on loopback, nor behind a bridge; elsewhere it may be.
        ("loopback", vec![("base", 7, from("127.0.0.0", 8))], 80, true, "none", 0),
        ("a bridge", vec![("base", 7, from("172.17.0.0", 16))], 80, true, "none", 0),
        ("outside", vec![("base", 7, from("192.0.2.0", 24))], 80, true, "none", 1),
        (
            "limit",
            vec![("base", 7, json!([{"limit": {"rate": 1}}, {"drop": null}]))],
            80,
            true,
            "none",
            1,
        ),
    ];
    for (name, rules, port, local, said, unclear) in cases {
        let found = judge(&rules, &mut packet(port), local);
        assert_eq!(found, (said.to_owned(), unclear), "{name}");
    }
}

#[test]
fn marks_are_put_on_and_looked_at() {
    let remember = json!([{"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"map": {
        "key": {"payload": {"protocol": "ether", "field": "saddr"}},
        "data": {"set": [["02:42:0a:00:00:02", 1558183938]]}}}}}]);
    let back = json!([{"match": {"op": "==", "left": {"ct": {"key": "mark"}},
        "right": {"prefix": {"addr": 1558183936, "len": 16}}}},
        {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"ct": {"key": "mark"}}}}]);
    let mut packet = packet(80);
    packet.mac = Some("02:42:0a:00:00:02".parse().expect("mac"));
    judge(&[("base", 7, remember), ("base", 8, back)], &mut packet, true);
    assert_eq!((packet.connection.mark, packet.mark), (0x5ce0_0002, 0x5ce0_0002));
}

#[test]
fn listings_are_joined_by_handle() {
    let tables = tables(nat("prerouting"), &[("base", 7, turns()), ("base", 8, turns())]);
    let texts: Vec<&str> = tables.chains[0].rules.iter().map(|r| r.text.as_str()).collect();
    assert_eq!(texts, ["a rule { of two lines }", "(no longer there)"]);
    assert!(Tables::parse("no JSON", "").is_err());
}

#[test]
fn routes_go_by_mark_prefix_and_metric() {
    let route = |table, destination: &str, link, metric| LiveRoute {
        table,
        destination: destination.parse().expect("prefix"),
        via: None,
        link: Some(link),
        source: None,
        metric,
        kind: RouteKind::Unicast,
    };
    let policy = |priority, table, mark| Policy { priority, table, mark, particular: false };
    let live = Live {
        routes: vec![
            route(254, "0.0.0.0/0", 1, 100),
            route(254, "0.0.0.0/0", 2, 50),
            route(254, "10.0.0.0/8", 3, 0),
            route(254, "10.0.1.0/24", 4, 0),
            route(7, "0.0.0.0/0", 5, 0),
        ],
        policies: vec![policy(100, 7, Some((0x7, u32::MAX))), policy(32766, 254, None)],
        ..Live::default()
    };
    let cases: [(Option<[u8; 4]>, u32, u32); 5] = [
        (Some([192, 0, 2, 1]), 0, 2),
        (Some([10, 9, 9, 9]), 0, 3),
        (Some([10, 0, 1, 9]), 0, 4),
        (Some([10, 0, 1, 9]), 7, 5),
        (None, 0, 2),
    ];
    for (to, mark, link) in cases {
        let hit = live.route(to.map(Ipv4Addr::from), mark).expect("a route");
        assert_eq!(hit.route.link, Some(link), "{to:?} {mark}");
    }
}

/// The trace of a target from outside on a host of a swarm without tasks.
fn ask(target: &str, live: Live, known: &[KnownService]) -> Trace {
    let mut world: World = world();
    let cluster = Cluster { node_name: "n".into(), data_path_addr: HOST.into(), vxlan_port: 4789 };
    world.set_cluster(Some(cluster), 0, &mut counter()).expect("a cluster");
    let services = world.services();
    let plans: HostPlan = plan::plan(&world);
    let nodes = BTreeMap::new();
    let blocked = BlockedPorts::new();
    let spaces = BTreeMap::from([(NsName::Host, Ok(live))]);
    let scene = Scene {
        world: &world,
        services: &services,
        plans: &plans,
        live: &spaces,
        nodes: &nodes,
        known: Some(known),
        blocked: &blocked,
    };
    let query = TraceQuery { target: target.to_owned(), ..TraceQuery::default() };
    let question = Question::read(&query, &scene).expect("a question");
    trace(&scene, &question, &world.names()).expect("nothing else to read")
}

#[test]
fn verdicts_at_the_host() {
    let web = KnownService {
        name: "web".to_owned(),
        ports: vec![KnownPort {
            protocol: Protocol::Tcp,
            target: 80,
            published: 8080,
            host_mode: false,
        }],
        running: 0,
        desired: 2,
    };
    let plain = || live(Tables::default());
    let listening = |address: [u8; 4]| {
        let address = Ipv4Addr::from(address).into();
        Live { sockets: vec![Listening { protocol: Protocol::Tcp, address, port: 22 }], ..plain() }
    };
    let mut down = plain();
    down.links[1].carrier = false;
    let foreign = json!({"family": "inet", "table": "filter", "name": "base", "handle": 1,
        "type": "filter", "hook": "input", "prio": 0, "policy": "drop"});
    let cases: Vec<(&str, &str, Live, Outcome, Reason)> = vec![
        ("unknown", "nope", plain(), Outcome::Unresolved, Reason::NoSuchName),
        ("nobody publishes", "9999", plain(), Outcome::Refused, Reason::NotPublished),
        ("no task", "web", plain(), Outcome::Refused, Reason::NoTask),
        ("no task by port", "8080", plain(), Outcome::Refused, Reason::NoTask),
        ("other port", "web:81", plain(), Outcome::Unresolved, Reason::NotPublished),
        ("a program", "22", listening([0, 0, 0, 0]), Outcome::Delivered, Reason::Ok),
        ("on loopback", "22", listening([127, 0, 0, 1]), Outcome::Refused, Reason::PortElsewhere),
        ("another host", "192.0.2.9:80", plain(), Outcome::Unresolved, Reason::NoSuchAddress),
        ("no carrier", "22", down, Outcome::Dropped, Reason::LinkDown),
        ("a firewall", "22", live(tables(foreign, &[])), Outcome::Dropped, Reason::ForeignRule),
    ];
    for (name, target, live, outcome, reason) in cases {
        let verdict = ask(target, live, std::slice::from_ref(&web)).verdict;
        assert_eq!((verdict.outcome, verdict.reason), (outcome, reason), "{name}: {verdict:?}");
    }
}

#[test]
fn only_what_is_needed_is_read() {
    let empty = world();
    let services = empty.services();
    let plans = plan::plan(&empty);
    let scene = Scene {
        world: &empty,
        services: &services,
        plans: &plans,
        live: &BTreeMap::new(),
        nodes: &BTreeMap::new(),
        known: None,
        blocked: &BlockedPorts::new(),
    };
    let query = TraceQuery { target: "80".to_owned(), ..TraceQuery::default() };
    let question = Question::read(&query, &scene).expect("a question");
    let needs = trace(&scene, &question, &empty.names()).expect_err("nothing was read");
    assert_eq!(needs, BTreeSet::from([NsName::Host]));
    for target in ["", ":0", "web:x", "80/icmp"] {
        let query = TraceQuery { target: target.to_owned(), ..TraceQuery::default() };
        assert!(Question::read(&query, &scene).is_err(), "{target}");
    }
}
