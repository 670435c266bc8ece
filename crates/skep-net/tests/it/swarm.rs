//! Overlays, virtual addresses and the routing mesh of one node.

use crate::harness::{
    CLIENT, HOST, Host, curl, on, on_a_host, run, serve_tcp_at, serve_udp_at, try_run, wait,
};
use skep_net::{
    Cidr, Cluster, EndpointId, EndpointRecord, EndpointSpec, ExtraHost, Net, NetworkId,
    OverlayNetwork, OverlaySubnet, PeerRecord, PublishedPort, RemoteChange, SandboxAdoption,
    SandboxId, SandboxMode, ServiceAttachment, ServiceId,
};
use skep_types::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

pub const INGRESS: &str = "yewz22nd9rf7aaaaaaaaaaaaa";
pub const WEB: &str = "i0ylvjdz6sqgbbbbbbbbbbbbb";
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 5, 2);

fn overlay(id: &str, name: &str, third: u8, vni: u32, lb: u8) -> OverlayNetwork {
    OverlayNetwork {
        id: NetworkId::new(id),
        name: name.to_owned(),
        created_unix_nanos: 0,
        subnets: vec![OverlaySubnet {
            subnet: Cidr::new(Ipv4Addr::new(10, 0, third, 0), 24).expect("subnet"),
            gateway: Ipv4Addr::new(10, 0, third, 1),
            vni,
        }],
        internal: false,
        attachable: third != 0,
        ingress: third == 0,
        lb_address: Some(Ipv4Addr::new(10, 0, third, lb)),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

pub async fn join(net: &Net) {
    let cluster = Cluster {
        node_name: "0123456789ab".to_owned(),
        data_path_addr: HOST.parse().expect("address"),
        vxlan_port: 4789,
    };
    net.set_cluster(Some(cluster)).await.expect("join");
    net.put_overlay(overlay(INGRESS, "ingress", 0, 4096, 4)).await.expect("ingress");
    net.put_overlay(overlay(WEB, "webtest_testnet", 5, 4097, 5)).await.expect("overlay");
}

/// A task of service `web` with its server; not yet in rotation.
pub async fn task(host: &Host, net: &Net, number: u8) -> SandboxId {
    task_at(host, net, number, Ipv4Addr::UNSPECIFIED).await
}

/// A task whose servers listen at one address only.
pub async fn task_at(host: &Host, net: &Net, number: u8, address: Ipv4Addr) -> SandboxId {
    task_on(host, net, number, address, 80).await
}

/// A task whose servers listen there.
async fn task_on(host: &Host, net: &Net, number: u8, address: Ipv4Addr, listen: u16) -> SandboxId {
    let spec = host.spec(number, &format!("web.{number}"));
    let id = spec.id.clone();
    net.create_sandbox(spec).await.expect("sandbox");
    let port =
        |protocol| PublishedPort { name: String::new(), protocol, target: 80, published: 8091 };
    let service = |vip, ingress_ports| {
        Some(ServiceAttachment {
            id: ServiceId::new("svcweb"),
            name: "web".to_owned(),
            vip,
            aliases: vec!["www".to_owned()],
            ingress_ports,
        })
    };
    let ports = vec![port(Protocol::Tcp), port(Protocol::Udp)];
    let ingress = EndpointSpec {
        ipv4: Some(Ipv4Addr::new(10, 0, 0, 100 + number)),
        service: service(Some(Ipv4Addr::new(10, 0, 0, 99)), ports),
        ..on("ingress")
    };
    let own = EndpointSpec {
        ipv4: Some(Ipv4Addr::new(10, 0, 5, 100 + number)),
        service: service(Some(VIP), Vec::new()),
        ..on(WEB)
    };
    net.connect(&id, vec![ingress, own]).await.expect("connect");
    let key = net.sandbox(&id).expect("info").key;
    serve_tcp_at(&key, address, listen, &format!("t{number}"));
    serve_udp_at(&key, address, listen, &format!("t{number}"));
    id
}

pub async fn client(host: &Host, net: &Net, number: u8) -> SandboxId {
    let spec = host.spec(number, &format!("client.{number}"));
    let id = spec.id.clone();
    net.create_sandbox(spec).await.expect("sandbox");
    let endpoint =
        EndpointSpec { ipv4: Some(Ipv4Addr::new(10, 0, 5, 100 + number)), ..on("webtest_testnet") };
    net.connect(&id, vec![endpoint]).await.expect("connect");
    net.enable_service(&id).await.expect("enable");
    id
}

#[test]
fn the_mesh_takes_turns_and_shows_the_client() {
    on_a_host("swarm::the_mesh_takes_turns_and_shows_the_client", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        assert_eq!(host.pins(), ["1-yewz22nd9r", "default", "ingress_sbox"]);
        let mut tasks = Vec::new();
        for number in 1..=3 {
            tasks.push(task(&host, &net, number).await);
        }
        assert_eq!(
            host.pins(),
            [
                "010101010101",
                "020202020202",
                "030303030303",
                "1-i0ylvjdz6s",
                "1-yewz22nd9r",
                "default",
                "ingress_sbox",
                "lb_i0ylvjdz6"
            ]
        );
        // Interfaces as the field reports show them.
        let t1 = host.enter("010101010101");
        for (link, address, mtu, mac) in [
            ("eth0", "10.0.0.101/24", "mtu 1450", "02:42:0a:00:00:65"),
            ("eth1", "10.0.5.101/24", "mtu 1450", "02:42:0a:00:05:65"),
            ("eth2", "172.18.0.3/16", "mtu 1500", "02:42:ac:12:00:03"),
        ] {
            let found = run(&format!("{t1} ip addr show {link}"));
            assert!(
                found.contains(address) && found.contains(mtu) && found.contains(mac),
                "{found}"
            );
            assert!(!found.contains("inet6"), "{found}");
        }
        assert!(run(&format!("{t1} ip route show default")).contains("via 172.18.0.1 dev eth2"));
        // Docker's nodes send to the published port, ours to the container's; nobody to another.
        let mesh = host.enter("ingress_sbox");
        for port in [8091, 80] {
            let said = run(&format!("{mesh} {}", curl(&format!("http://10.0.0.101:{port}"))));
            assert!(said.starts_with("t1"), "{port}: {said}");
        }
        try_run(&format!("{mesh} curl -s -m 1 http://10.0.0.101:81")).expect_err("not published");
        // Nothing before the tasks are in rotation: refused, not left hanging.
        let error =
            host.try_client(&curl(&format!("http://{HOST}:8091"))).expect_err("not in rotation");
        assert!(error.contains("exit status: 7"), "{error}");
        for id in &tasks {
            net.enable_service(id).await.expect("enable");
        }
        // In turn, and the task sees who called.
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(host.client(&curl(&format!("http://{HOST}:8091"))));
        }
        let expected: Vec<String> =
            [1, 2, 3, 1, 2, 3].iter().map(|n| format!("t{n} {CLIENT}\n")).collect();
        assert_eq!(seen, expected);
        // Every address of the host, from the host, and UDP.
        for url in ["http://127.0.0.1:8091", "http://172.18.0.1:8091", "http://172.18.0.2:8091"] {
            assert!(run(&curl(url)).starts_with('t'), "{url}");
        }
        assert!(run(&curl(&format!("http://{HOST}:8091"))).contains(HOST));
        let udp: BTreeSet<String> = (0..3)
            .map(|_| host.client(&format!("sh -c 'echo x | socat -T1 - UDP:{HOST}:8091'")))
            .collect();
        assert_eq!(udp, (1..=3).map(|n| format!("t{n} {CLIENT}")).collect());
        // A task through its own host's published port.
        assert!(run(&format!("{t1} {}", curl("http://172.18.0.1:8091"))).starts_with('t'));
        // Target port on the gateway bridge, but not the published one (report 2).
        assert!(run(&curl("http://172.18.0.3:80")).starts_with("t1 "));
        assert!(
            try_run(&curl("http://172.18.0.3:8091"))
                .expect_err("refused")
                .contains("exit status: 7")
        );
        // Large answers get through although the overlay's MTU is smaller.
        let size = host
            .client(&curl(&format!("-o /dev/null -w %{{size_download}} http://{HOST}:8091/big")));
        assert_eq!(size, crate::harness::BIG.to_string());
        let over_ingress = "-o /dev/null -w %{size_download} http://172.18.0.2:8091/big";
        assert_eq!(run(&curl(over_ingress)), crate::harness::BIG.to_string());
        // Inspection.
        let ingress = net.inspect("ingress").expect("inspect");
        let sbox = &ingress.containers["ingress-sbox"];
        assert_eq!(
            (sbox.name.as_str(), sbox.ipv4.to_string()),
            ("ingress-endpoint", "10.0.0.4/24".to_owned())
        );
        assert_eq!(ingress.containers.len(), 4);
        assert_eq!(ingress.peers[0].name, "0123456789ab");
        let own = net.inspect("webtest_testnet").expect("inspect");
        assert_eq!(own.containers["lb-webtest_testnet"].name, "webtest_testnet-endpoint");
        assert_eq!(own.network.options["com.docker.network.driver.overlay.vxlanid_list"], "4097");
        let gateway = net.inspect("docker_gwbridge").expect("inspect");
        assert_eq!(gateway.containers["ingress-sbox"].name, "gateway_ingress-sbox");
        assert_eq!(gateway.containers[&"01".repeat(32)].name, "gateway_010101010101");
        // A port of the mesh is spoken for.
        let mut rival = host.spec(0x77, "rival");
        rival.ports = vec![crate::harness::tcp(8091, 80)];
        let rival_id = rival.id.clone();
        net.create_sandbox(rival).await.expect("sandbox");
        let error = net.connect(&rival_id, vec![on("bridge")]).await.expect_err("taken");
        assert!(error.to_string().ends_with("(held by service web)"), "{error}");
        net.remove_sandbox(&rival_id).await.expect("remove");

        // Draining: what is open goes on, nothing new comes.
        net.disable_service(&tasks[1]).await.expect("disable");
        for _ in 0..4 {
            assert!(!host.client(&curl(&format!("http://{HOST}:8091"))).starts_with("t2"));
        }
        // Gone without a trace.
        for id in &tasks {
            net.remove_sandbox(id).await.expect("remove");
        }
        wait("namespaces to go", || host.pins() == ["1-yewz22nd9r", "default", "ingress_sbox"]);
        assert!(!run("nft list table ip skep").contains("8091"));
        let left = run(&format!("{} nft list ruleset", host.enter("ingress_sbox")));
        assert!(!left.contains("8091"), "{left}");
        let error = host.try_client(&curl(&format!("http://{HOST}:8091"))).expect_err("gone");
        assert!(error.contains("exit status: 7"), "{error}");
        net.remove_overlay(&NetworkId::new(WEB)).await.expect("remove");
        net.set_cluster(None).await.expect("leave");
        assert_eq!(host.pins(), ["default"]);
        crate::harness::no_cables();
        assert_eq!(net.problems(), Vec::<String>::new());
    });
}

#[test]
fn open_connections_outlive_the_rotation() {
    on_a_host("swarm::open_connections_outlive_the_rotation", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        let first = task(&host, &net, 1).await;
        net.enable_service(&first).await.expect("enable");
        let udp = || {
            host.try_client(&format!(
                "sh -c 'echo x | socat -T1 - UDP:{HOST}:8091,sourceport=7777'"
            ))
        };
        assert_eq!(udp(), Ok(format!("t1 {CLIENT}")));
        // Two requests on one connection, a second apart; the change falls between.
        let mut command = std::process::Command::new("sh");
        let script = format!(
            "(printf 'GET / HTTP/1.1\\r\\n\\r\\n'; sleep 2; printf 'GET / HTTP/1.1\\r\\n\\r\\n'; sleep 0.5) | socat -T4 - TCP:{HOST}:8091"
        );
        let mut child = command
            .args(["-c", &host.client_command(&script)])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("client");
        std::thread::sleep(std::time::Duration::from_millis(700));
        let second = task(&host, &net, 2).await;
        net.enable_service(&second).await.expect("enable");
        net.disable_service(&first).await.expect("disable");
        assert_eq!(host.client(&curl(&format!("http://{HOST}:8091"))), format!("t2 {CLIENT}\n"));
        let status = child.wait().expect("client");
        assert!(status.success());
        let mut text = String::new();
        use std::io::Read as _;
        child.stdout.take().expect("output").read_to_string(&mut text).expect("output");
        assert_eq!(text.matches(&format!("t1 {CLIENT}")).count(), 2, "{text}");
        // A UDP flow, whose packets never say that it ends, moves on with its backend.
        assert_eq!(udp(), Ok(format!("t1 {CLIENT}")));
        net.remove_sandbox(&first).await.expect("remove");
        wait("the flow to move", || udp() == Ok(format!("t2 {CLIENT}")));
        // The last one leaves: new clients are refused at once.
        net.disable_service(&second).await.expect("disable");
        let error =
            host.try_client(&curl(&format!("http://{HOST}:8091"))).expect_err("nobody left");
        assert!(error.contains("exit status: 7"), "{error}");
    });
}

#[test]
fn a_first_packet_to_a_dead_host_is_sent_again_to_a_living_task() {
    let name = "swarm::a_first_packet_to_a_dead_host_is_sent_again_to_a_living_task";
    on_a_host(name, |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        let living = task(&host, &net, 1).await;
        // The only one in rotation is on a host where nobody answers.
        let changes = far(("web", None), INGRESS, 0, Some(8091));
        net.apply_remote(changes).await.expect("apply");
        let child = std::process::Command::new("sh")
            .args(["-c", &host.client_command(&format!("curl -sS -m 8 http://{HOST}:8091"))])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("client");
        wait("the first packet", || !host.client("ss -Htn state syn-sent").is_empty());
        net.enable_service(&living).await.expect("enable");
        let silent = RemoteChange::Silent(NetworkId::new(INGRESS), far_endpoint());
        net.apply_remote(vec![silent]).await.expect("apply");
        let output = child.wait_with_output().expect("client");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("t1 {CLIENT}\n"));
    });
}

#[test]
fn virtual_addresses_are_balanced_at_the_edge() {
    on_a_host("swarm::virtual_addresses_are_balanced_at_the_edge", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        let mut tasks = Vec::new();
        for number in 1..=3 {
            let id = task(&host, &net, number).await;
            net.enable_service(&id).await.expect("enable");
            tasks.push(id);
        }
        client(&host, &net, 9).await;
        let inside = host.enter("090909090909");
        let dig = |query: &str| {
            let mut found: Vec<String> = run(&format!("{inside} dig @127.0.0.11 +short {query}"))
                .lines()
                .map(str::to_owned)
                .collect();
            found.sort();
            found
        };
        assert_eq!(dig("web"), ["10.0.5.2"]);
        assert_eq!(dig("www"), ["10.0.5.2"]);
        assert_eq!(dig("tasks.web"), ["10.0.5.101", "10.0.5.102", "10.0.5.103"]);
        assert_eq!(dig("web.1"), ["10.0.5.101"]);
        assert_eq!(dig("web.1.webtest_testnet"), ["10.0.5.101"]);
        assert_eq!(dig("-x 10.0.5.101"), ["web.1.webtest_testnet."]);
        assert_eq!(dig("client.9"), ["10.0.5.109"]);
        run(&format!("{inside} ping -c2 -W2 {VIP}"));
        wait("all three behind the address", || {
            run(&format!("{inside} nft list ruleset")).contains("10.0.5.103")
        });
        let seen: Vec<String> =
            (0..6).map(|_| run(&format!("{inside} {}", curl(&format!("http://{VIP}"))))).collect();
        let expected: Vec<String> =
            [1, 2, 3, 1, 2, 3].iter().map(|n| format!("t{n} 10.0.5.109\n")).collect();
        assert_eq!(seen, expected);
        // A task that calls its own service may get itself.
        let own = host.enter("010101010101");
        let seen: BTreeSet<String> =
            (0..3).map(|_| run(&format!("{own} {}", curl(&format!("http://{VIP}"))))).collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
        // Draining takes it out of rotation and names at once; the address stays.
        net.disable_service(&tasks[0]).await.expect("disable");
        for _ in 0..3 {
            assert!(
                !run(&format!("{inside} {}", curl(&format!("http://{VIP}")))).starts_with("t1")
            );
        }
        assert_eq!(dig("tasks.web"), ["10.0.5.102", "10.0.5.103"]);
        assert_eq!(dig("web"), ["10.0.5.2"]);
        for id in &tasks {
            net.disable_service(id).await.expect("disable");
        }
        let error =
            try_run(&format!("{inside} {}", curl(&format!("http://{VIP}")))).expect_err("nobody");
        assert!(error.contains("exit status: 7"), "{error}");
        for id in &tasks {
            net.remove_sandbox(id).await.expect("remove");
        }
        assert!(dig("web").is_empty());
        assert!(!run(&format!("{} ip addr", host.enter("lb_i0ylvjdz6"))).contains("10.0.5.2/32"));
        // Crash and return: the swarm's part is adopted too.
        let before = run(&format!("{} nft list ruleset", host.enter("ingress_sbox")));
        net.shutdown().await;
        drop(net);
        let net = host.start().await;
        assert_eq!(net.reconcile().await.repairs, 0);
        assert_eq!(run(&format!("{} nft list ruleset", host.enter("ingress_sbox"))), before);
    });
}

/// Of what another host says, the endpoint.
pub fn far_endpoint() -> EndpointId {
    "ff".repeat(32).as_str().into()
}

/// What another host, at the client's address, says of its task 10.0.`third`.107 of a service, which
/// has this virtual address.
pub fn far(
    (service, vip): (&str, Option<Ipv4Addr>),
    network: &str,
    third: u8,
    published: Option<u16>,
) -> Vec<RemoteChange> {
    let (network, endpoint) = (NetworkId::new(network), far_endpoint());
    let address = Ipv4Addr::new(10, 0, third, 107);
    let port = |published| PublishedPort {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published,
    };
    let record = EndpointRecord {
        name: format!("{service}.7"),
        service_name: service.to_owned(),
        service_id: format!("svc{service}"),
        vip,
        endpoint_ip: address,
        ingress_ports: published.into_iter().map(port).collect(),
        aliases: Vec::new(),
        task_aliases: Vec::new(),
        disabled: false,
    };
    let peer = PeerRecord {
        endpoint_ip: format!("{address}/24").parse().expect("address"),
        endpoint_mac: format!("02:42:0a:00:{third:02x}:6b").parse().expect("address"),
        tunnel_endpoint_ip: CLIENT.parse().expect("address"),
    };
    vec![
        RemoteChange::Peer(network.clone(), endpoint.clone(), Some(peer)),
        RemoteChange::Endpoint(network, endpoint, Some(record)),
    ]
}

#[test]
fn other_nodes_are_records() {
    on_a_host("swarm::other_nodes_are_records", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        client(&host, &net, 9).await;
        let network = NetworkId::new(WEB);
        let changes = far(("web", Some(VIP)), WEB, 5, None);
        net.apply_remote(changes).await.expect("apply");
        let overlay = host.enter("1-i0ylvjdz6s");
        let fdb = run(&format!("{overlay} bridge fdb show dev vxlan0"));
        assert!(fdb.contains(&format!("02:42:0a:00:05:6b dst {CLIENT} ")), "{fdb}");
        let neighbours = run(&format!("{overlay} ip neigh show dev vxlan0"));
        assert!(
            neighbours.contains("10.0.5.107 lladdr 02:42:0a:00:05:6b PERMANENT"),
            "{neighbours}"
        );
        // The other node, by hand: a VXLAN device outside that answers for the task.
        host.client(&format!(
            "ip link add v0 type vxlan id 4097 dstport 4789 local {CLIENT} nolearning"
        ));
        host.client("ip link set v0 address 02:42:0a:00:05:6b mtu 1450 up");
        host.client("ip addr add 10.0.5.107/24 dev v0");
        host.client("ip neigh replace 10.0.5.109 lladdr 02:42:0a:00:05:6d dev v0 nud permanent");
        host.client(&format!("bridge fdb append 02:42:0a:00:05:6d dev v0 dst {HOST}"));
        let inside = host.enter("090909090909");
        run(&format!("{inside} ping -c2 -W2 10.0.5.107"));
        assert_eq!(run(&format!("{inside} dig @127.0.0.11 +short tasks.web")).trim(), "10.0.5.107");
        assert_eq!(net.inspect(WEB).expect("inspect").peers.len(), 2);
        net.apply_remote(vec![RemoteChange::ForgetNetwork(network)]).await.expect("forget");
        assert!(
            !run(&format!("{overlay} bridge fdb show dev vxlan0")).contains("02:42:0a:00:05:6b")
        );
        assert!(!run(&format!("{overlay} ip neigh show dev vxlan0")).contains("10.0.5.107"));
    });
}

#[test]
fn overlays_follow_the_mtu_of_the_hosts_cable() {
    on_a_host("swarm::overlays_follow_the_mtu_of_the_hosts_cable", |host: Host| async move {
        run("ip link set h0 mtu 9000");
        let net = host.start().await;
        join(&net).await;
        task(&host, &net, 1).await;
        let links = [
            ("1-i0ylvjdz6s", "br0"),
            ("1-i0ylvjdz6s", "vxlan0"),
            ("lb_i0ylvjdz6", "eth0"),
            ("1-yewz22nd9r", "br0"),
            ("ingress_sbox", "eth0"),
            ("010101010101", "eth0"),
            ("010101010101", "eth1"),
        ];
        let all_have = |mtu: u16| {
            for (pin, link) in links {
                let found = run(&format!("{} ip link show {link}", host.enter(pin)));
                assert!(found.contains(&format!(" mtu {mtu} ")), "{mtu} in {pin}: {found}");
            }
        };
        all_have(8950);
        // What is there already follows a change at the next verification.
        for (cable, inside) in [(1400, 1350), (1500, 1450), (9000, 8950)] {
            run(&format!("ip link set h0 mtu {cable}"));
            net.reconcile().await;
            all_have(inside);
        }
    });
}

/// As a server does that listens on what its host name means, and as one that takes all: whichever way
/// a connection comes.
#[test]
fn a_server_may_listen_on_its_ingress_address_only() {
    on_a_host("swarm::a_server_may_listen_on_its_ingress_address_only", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        for (number, address) in [(1, Ipv4Addr::new(10, 0, 0, 101)), (2, Ipv4Addr::UNSPECIFIED)] {
            let id = task_at(&host, &net, number, address).await;
            net.enable_service(&id).await.expect("enable");
        }
        let both = |who: &str| BTreeSet::from([format!("t1 {who}"), format!("t2 {who}")]);
        let udp = |to: &str| format!("sh -c 'echo x | socat -T1 - UDP:{to}:8091'");
        let twice = |run: &dyn Fn() -> String| {
            BTreeSet::from([run().trim_end().to_owned(), run().trim_end().to_owned()])
        };
        let web = curl(&format!("http://{HOST}:8091"));
        assert_eq!(twice(&|| host.client(&web)), both(CLIENT));
        assert_eq!(twice(&|| host.client(&udp(HOST))), both(CLIENT));
        let behind = "172.18.0.2";
        assert_eq!(twice(&|| run(&curl(&format!("http://{behind}:8091")))), both("172.18.0.1"));
        assert_eq!(twice(&|| run(&udp(behind))), both("172.18.0.1"));
    });
}

/// What comes in from the host goes out to it, as the mesh's answers go back to the mesh: also where the client's
/// address looks like one of the task's own networks, and where a task has another default route, as with a VPN.
#[test]
fn answers_leave_the_way_a_connection_came() {
    on_a_host("swarm::answers_leave_the_way_a_connection_came", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        let id = task(&host, &net, 1).await;
        net.enable_service(&id).await.expect("enable");
        let inside = host.enter("010101010101");
        let udp = format!("sh -c 'echo x | socat -T1 - UDP:{HOST}:8091'");
        for route in ["add 10.77.0.0/24 dev eth1", "replace default via 10.0.5.9 dev eth1"] {
            run(&format!("{inside} ip route {route}"));
            assert_eq!(
                host.client(&curl(&format!("http://{HOST}:8091"))),
                format!("t1 {CLIENT}\n")
            );
            assert_eq!(host.client(&udp), format!("t1 {CLIENT}"));
            assert!(run(&curl("http://172.18.0.2:8091")).starts_with("t1"));
        }
    });
}

/// A client that asks from one port, first before anybody listens and then through the mesh as well.
#[test]
fn a_udp_flow_survives_what_was_before() {
    on_a_host("swarm::a_udp_flow_survives_what_was_before", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        let id = task_on(&host, &net, 1, Ipv4Addr::LOCALHOST, 81).await;
        net.enable_service(&id).await.expect("enable");
        let ask = |to: &str| format!("sh -c 'echo x | socat -T1 - UDP:{to}:8091,bind=:40000'");
        assert!(!host.try_client(&ask(HOST)).unwrap_or_default().contains("t1"));
        let key = net.sandbox(&id).expect("info").key;
        serve_udp_at(&key, Ipv4Addr::UNSPECIFIED, 80, "late");
        assert_eq!(host.client(&ask(HOST)), format!("late {CLIENT}"));
        // Over the ingress network, over the task's bridge, and again.
        for to in ["172.18.0.2", "127.0.0.1", "172.18.0.2", "127.0.0.1"] {
            assert_eq!(run(&ask(to)), "late 172.18.0.1", "{to}");
        }
        assert_eq!(host.client(&ask(HOST)), format!("late {CLIENT}"));
    });
}

#[test]
fn lasting_entries_of_others_leave_the_bridges() {
    on_a_host("swarm::lasting_entries_of_others_leave_the_bridges", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        let task = task(&host, &net, 1).await;
        net.enable_service(&task).await.expect("enable");
        // The mesh's own address leads to tasks here over the ingress network.
        let ask = curl("http://172.18.0.2:8091");
        run(&ask);
        assert_eq!(net.reconcile().await.repairs, 0);
        // The mesh's own address leads to the bridge itself, the task's to the tunnel.
        let overlay = host.enter("1-yewz22nd9r");
        run(&format!("{overlay} bridge fdb replace 02:42:0a:00:00:04 dev br0 self permanent"));
        run(&format!("{overlay} bridge fdb replace 02:42:0a:00:00:65 dev vxlan0 master static"));
        try_run(&ask).expect_err("led astray");
        assert_eq!(net.reconcile().await.repairs, 2);
        let table = run(&format!("{overlay} bridge fdb show"));
        assert!(!table.contains("02:42:0a:00:00:04 dev br0"), "{table}");
        assert!(!table.contains("static"), "{table}");
        run(&ask);
        assert_eq!(net.reconcile().await.repairs, 0);
    });
}

#[test]
fn host_mode_only_writes_files() {
    on_a_host("swarm::host_mode_only_writes_files", |host: Host| async move {
        let net = host.start().await;
        let mut spec = host.spec(0x42, "plain");
        spec.mode = SandboxMode::Host;
        spec.extra_hosts = vec![ExtraHost { name: "up.test".to_owned(), address: None }];
        let id = spec.id.clone();
        let info = net.create_sandbox(spec).await.expect("sandbox");
        assert_eq!(info.key, host.pin("default"));
        let hosts =
            std::fs::read_to_string(host.dir.path().join("files-plain/hosts")).expect("file");
        assert!(hosts.ends_with("172.17.0.1\tup.test\n"), "{hosts}");
        assert!(net.connect(&id, vec![on("bridge")]).await.is_err());
        net.remove_sandbox(&id).await.expect("remove");
    });
}

#[test]
fn many_tasks_start_together() {
    on_a_host("swarm::many_tasks_start_together", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        let started = std::time::Instant::now();
        let mut starting = tokio::task::JoinSet::new();
        for number in 10..46u8 {
            let net = net.clone();
            let spec = host.spec(number, &format!("web.{number}"));
            starting.spawn(async move {
                let id = spec.id.clone();
                net.create_sandbox(spec).await.expect("sandbox");
                let attachment = |vip| ServiceAttachment {
                    id: ServiceId::new("svcweb"),
                    name: "web".to_owned(),
                    vip: Some(vip),
                    aliases: Vec::new(),
                    ingress_ports: vec![PublishedPort {
                        name: String::new(),
                        protocol: Protocol::Tcp,
                        target: 80,
                        published: 8091,
                    }],
                };
                let ingress = EndpointSpec {
                    ipv4: Some(Ipv4Addr::new(10, 0, 0, 100 + number)),
                    service: Some(attachment(Ipv4Addr::new(10, 0, 0, 99))),
                    ..on("ingress")
                };
                let own = EndpointSpec {
                    ipv4: Some(Ipv4Addr::new(10, 0, 5, 100 + number)),
                    service: Some(attachment(VIP)),
                    ..on(WEB)
                };
                net.connect(&id, vec![ingress, own]).await.expect("connect");
                net.enable_service(&id).await.expect("enable");
                id
            });
        }
        let ids = starting.join_all().await;
        let elapsed = started.elapsed();
        println!("36 tasks in {elapsed:?}");
        // A third of the budget of the whole start, on a busy machine.
        assert!(elapsed < std::time::Duration::from_secs(5), "{elapsed:?}");
        let rules = run(&format!("{} nft list ruleset", host.enter("ingress_sbox")));
        assert!(rules.contains("mod 36"), "{rules}");
        assert_eq!(net.reconcile().await.failures, 0);
        let started = std::time::Instant::now();
        assert_eq!(net.reconcile().await.repairs, 0);
        println!("verified in {:?}", started.elapsed());
        let started = std::time::Instant::now();
        let mut stopping = tokio::task::JoinSet::new();
        for id in ids {
            let net = net.clone();
            stopping.spawn(async move {
                net.disable_service(&id).await.expect("disable");
                net.remove_sandbox(&id).await.expect("remove");
            });
        }
        stopping.join_all().await;
        println!("gone in {:?}", started.elapsed());
        wait("namespaces to go", || host.pins() == ["1-yewz22nd9r", "default", "ingress_sbox"]);
        // One container on the default bridge, as `docker run` needs it.
        for _ in 0..5 {
            let spec = host.spec(0xee, "one");
            let id = spec.id.clone();
            let (first, started) = (std::time::Instant::now(), std::time::Instant::now());
            net.create_sandbox(spec).await.expect("sandbox");
            let made = started.elapsed();
            let started = std::time::Instant::now();
            net.connect(&id, vec![on("bridge")]).await.expect("connect");
            let connected = started.elapsed();
            let started = std::time::Instant::now();
            net.remove_sandbox(&id).await.expect("remove");
            println!(
                "made in {made:?}, connected in {connected:?}, removed in {:?}, all in {:?}",
                started.elapsed(),
                first.elapsed()
            );
        }
    });
}

#[test]
fn an_overlay_is_made_again_while_the_old_one_is_going() {
    let name = "swarm::an_overlay_is_made_again_while_the_old_one_is_going";
    on_a_host(name, |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        for _ in 0..30 {
            // The same again, and another with the same VXLAN id.
            for id in [WEB, "j0ylvjdz6sqgbbbbbbbbbbbbb"] {
                net.put_overlay(overlay(id, "webtest_testnet", 5, 4097, 5)).await.expect("overlay");
                for number in 1..=2 {
                    let task = client(&host, &net, number).await;
                    net.remove_sandbox(&task).await.expect("remove");
                }
                net.remove_overlay(&NetworkId::new(id)).await.expect("remove");
            }
        }
        // A pin that goes by hand takes nothing along, not even with the daemon.
        net.put_overlay(overlay(WEB, "webtest_testnet", 5, 4097, 5)).await.expect("overlay");
        let task = client(&host, &net, 1).await;
        let pin = host.pin("1-i0ylvjdz6s");
        run(&format!("umount -l {0} && rm {0}", pin.display()));
        assert_eq!(net.reconcile().await.repairs, 1);
        run(&format!("nsenter --net={} ip link show vxlan0", pin.display()));
        net.shutdown().await;
        drop(net);
        run(&format!("umount -l {0} && rm {0}", pin.display()));
        let net = host.start().await;
        net.adopt(vec![SandboxAdoption { id: task, dns_sockets: Vec::new() }])
            .await
            .expect("adopt");
        assert_eq!(net.problems(), Vec::<String>::new());
        run(&format!("nsenter --net={} ip link show vxlan0", pin.display()));
        assert_eq!(net.reconcile().await.repairs, 0);
    });
}

#[test]
fn a_broken_namespace_concerns_its_container_only() {
    on_a_host("swarm::a_broken_namespace_concerns_its_container_only", |host: Host| async move {
        let config = host.breakable();
        let net = Net::start(config).await.expect("start");
        join(&net).await;
        let first = task(&host, &net, 1).await;
        net.enable_service(&first).await.expect("enable");
        let second = task(&host, &net, 2).await;
        net.enable_service(&second).await.expect("enable");
        client(&host, &net, 3).await;
        client(&host, &net, 4).await;
        let edges = |pin: &str| run(&format!("{} nft list table ip skep", host.enter(pin)));
        wait("both tasks at the edges", || {
            ["030303030303", "040404040404"].iter().all(|pin| edges(pin).contains("10.0.5.102"))
        });

        host.break_rules("030303030303");
        net.disable_service(&first).await.expect("the others are whole");
        assert!(!edges("040404040404").contains("10.0.5.101"), "still sent to");
        assert!(edges("030303030303").contains("10.0.5.101"), "not broken after all");
        assert!(net.problems().iter().any(|p| p.contains("030303030303")), "{:?}", net.problems());
        net.enable_service(&first).await.expect("the others are whole");
        let remote = EndpointRecord {
            name: "web.9".to_owned(),
            service_name: "web".to_owned(),
            service_id: "svcweb".to_owned(),
            vip: Some(VIP),
            endpoint_ip: Ipv4Addr::new(10, 0, 5, 109),
            ingress_ports: Vec::new(),
            aliases: Vec::new(),
            task_aliases: Vec::new(),
            disabled: false,
        };
        let change = RemoteChange::Endpoint(WEB.into(), "remote".into(), Some(remote));
        net.apply_remote(vec![change]).await.expect_err("this one waits for every container");
        assert!(edges("040404040404").contains("10.0.5.109"), "not sent to");
        net.put_overlay(overlay("anotheranotheraaaaaaaaaaa", "another", 6, 4098, 5))
            .await
            .expect("none of its business");

        host.mend_rules();
        assert_eq!(net.reconcile().await.failures, 0);
        assert!(edges("030303030303").contains("10.0.5.109"), "not mended");
    });
}
