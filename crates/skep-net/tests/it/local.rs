//! Local networks: bridges, names, ports.

use crate::harness::{
    CLIENT, HOST, Host, curl, on, on_a_host, run, serve_dns, serve_tcp, serve_udp, tcp, try_run,
};
use skep_net::{ErrorKind, IpamSpec, NetError, NetworkCreate, PortSpec, SandboxId};
use skep_types::Protocol;

fn network(name: &str) -> NetworkCreate {
    NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() }
}

#[test]
fn containers_on_a_network_find_each_other() {
    on_a_host("local::containers_on_a_network_find_each_other", |host: Host| async move {
        let net = host.start().await;
        assert!(net.checks().iter().all(|c| c.available), "{:?}", net.checks());
        serve_dns();
        net.create_network(network("web")).await.expect("network");
        let (a, b) = (host.spec(0xaa, "a"), host.spec(0xbb, "b"));
        let (a_id, b_id) = (a.id.clone(), b.id.clone());
        for spec in [a, b] {
            let id = spec.id.clone();
            net.create_sandbox(spec).await.expect("sandbox");
            let mut endpoint = on("web");
            endpoint.aliases = vec!["Alias".to_owned()];
            net.connect(&id, vec![endpoint]).await.expect("connect");
        }
        let (in_a, in_b) = (host.enter("aaaaaaaaaaaa"), host.enter("bbbbbbbbbbbb"));
        let b_ip = net.sandbox(&b_id).expect("b").endpoints[0].ipv4;
        assert_eq!(b_ip.to_string(), "172.18.0.3");
        let link = run(&format!("{in_a} ip -4 addr show eth0"));
        assert!(link.contains("172.18.0.2/16") && link.contains("mtu 1500"), "{link}");
        assert!(run(&format!("{in_a} ip link show eth0")).contains("02:42:ac:12:00:02"));
        run(&format!("{in_a} ping -c1 -W2 {b_ip}"));
        // UDP and TCP, names in any case, reverse, other types, the outside.
        for (query, expected) in [
            ("b", "172.18.0.3"),
            ("B", "172.18.0.3"),
            ("bbbbbbbbbbbb", "172.18.0.3"),
            ("b.web", "172.18.0.3"),
            ("+tcp b", "172.18.0.3"),
            ("-x 172.18.0.3", "b.web."),
            ("-t AAAA b", ""),
            ("outside.test", "192.0.2.7"),
        ] {
            let found = run(&format!("{in_a} dig @127.0.0.11 +short +time=2 +tries=1 {query}"));
            assert_eq!(found.trim(), expected, "{query}");
        }
        let both = run(&format!("{in_a} dig @127.0.0.11 +short alias"));
        assert_eq!(both.lines().count(), 2, "{both}");
        let status = run(&format!("{in_a} dig @127.0.0.11 -t MX b | grep status"));
        assert!(status.contains("NOERROR"), "{status}");
        let status = run(&format!("{in_a} dig @127.0.0.11 nowhere.test | grep status"));
        assert!(status.contains("NXDOMAIN"), "{status}");
        serve_tcp(&host.pin("bbbbbbbbbbbb"), 80, "b");
        assert_eq!(run(&format!("{in_a} {}", curl("http://172.18.0.3"))), "b 172.18.0.2\n");
        let resolv =
            std::fs::read_to_string(host.dir.path().join("files-a/resolv.conf")).expect("file");
        assert_eq!(resolv, "nameserver 127.0.0.11\nsearch example.test\noptions edns0 ndots:0\n");
        let hosts = std::fs::read_to_string(host.dir.path().join("files-a/hosts")).expect("file");
        assert!(hosts.ends_with("172.18.0.2\taaaaaaaaaaaa\n"), "{hosts}");
        // A new name is known at once, the old one no more.
        net.rename(&b_id, "c").await.expect("rename");
        assert_eq!(run(&format!("{in_b} dig @127.0.0.11 +short c")).trim(), "172.18.0.3");
        assert_eq!(run(&format!("{in_a} dig @127.0.0.11 +short b")).trim(), "");
        // In use, then not, then gone.
        let error = net.remove_network("web").await.expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.to_string().contains("has active endpoints (name:\"a\" id:"), "{error}");
        net.disconnect(&a_id, "web").await.expect("disconnect");
        assert!(try_run(&format!("{in_a} ip link show eth0")).is_err());
        net.remove_sandbox(&a_id).await.expect("remove");
        net.remove_sandbox(&b_id).await.expect("remove");
        net.remove_network("web").await.expect("remove");
        assert_eq!(host.pins(), ["default"]);
        crate::harness::no_cables();
        assert!(!run("ip -br link").contains("br-"));
        let report = net.reconcile().await;
        assert_eq!((report.repairs, report.failures), (0, 0));
    });
}

#[test]
fn published_ports_show_the_client() {
    on_a_host("local::published_ports_show_the_client", |host: Host| async move {
        let net = host.start().await;
        let mut spec = host.spec(0xaa, "web");
        spec.ports = vec![
            tcp(8080, 80),
            PortSpec { host_ip: "127.0.0.1".parse().ok(), ..tcp(8081, 80) },
            PortSpec { protocol: Protocol::Udp, ..tcp(5300, 53) },
            PortSpec { host_ports: (0, 0), ..tcp(0, 80) },
        ];
        let id = spec.id.clone();
        net.create_sandbox(spec).await.expect("sandbox");
        net.connect(&id, vec![on("bridge")]).await.expect("connect");
        let info = net.sandbox(&id).expect("info");
        assert!(!info.embedded_dns);
        let automatic = info.ports[3].host_port;
        assert!((32768..=60999).contains(&automatic));
        serve_tcp(&info.key, 80, "web");
        serve_udp(&info.key, 53, "dns");
        // The outside client keeps its address, TCP and UDP.
        assert_eq!(host.client(&curl(&format!("http://{HOST}:8080"))), format!("web {CLIENT}\n"));
        assert_eq!(
            host.client(&curl(&format!("http://{HOST}:{automatic}"))),
            format!("web {CLIENT}\n")
        );
        let udp = host.client(&format!("sh -c 'echo x | socat -T1 - UDP:{HOST}:5300'"));
        assert_eq!(udp, format!("dns {CLIENT}"));
        // The loopback one only on the host; the bridge's address is what is seen.
        assert!(host.try_client(&curl(&format!("http://{HOST}:8081"))).is_err());
        assert_eq!(run(&curl("http://127.0.0.1:8081")), "web 172.17.0.1\n");
        assert_eq!(run(&curl("http://127.0.0.1:8080")), "web 172.17.0.1\n");
        assert_eq!(run(&curl(&format!("http://{HOST}:8080"))), format!("web {HOST}\n"));
        // The container itself through the host.
        let inside = host.enter("aaaaaaaaaaaa");
        assert!(
            run(&format!("{inside} {}", curl(&format!("http://{HOST}:8080")))).starts_with("web ")
        );
        // Unpublished ports are not reached by routing to the container.
        assert!(host.try_client("curl -sS --max-time 1 http://172.17.0.2:80").is_err());
        // The way out is masqueraded.
        host.client(&format!("ping -c1 -W1 {HOST}"));
        run(&format!("{inside} ping -c1 -W2 {CLIENT}"));
        // Taken ports are named with their holder.
        let mut other = host.spec(0xbb, "other");
        other.ports = vec![tcp(8080, 80)];
        let other_id = other.id.clone();
        net.create_sandbox(other).await.expect("sandbox");
        let error = net.connect(&other_id, vec![on("bridge")]).await.expect_err("taken");
        assert_eq!(
            error.to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated (held by container web)"
        );
        assert!(net.sandbox(&other_id).expect("other").endpoints.is_empty());
        let _listener = std::net::TcpListener::bind("0.0.0.0:8090").expect("listen");
        let mut third = host.spec(0xcc, "third");
        third.ports = vec![tcp(8090, 80)];
        let third_id = third.id.clone();
        net.create_sandbox(third).await.expect("sandbox");
        let error = net.connect(&third_id, vec![on("bridge")]).await.expect_err("taken");
        assert!(error.to_string().contains("held by process"), "{error}");
        for id in [&id, &other_id, &third_id] {
            net.remove_sandbox(id).await.expect("remove");
        }
        assert!(host.try_client(&curl(&format!("http://{HOST}:8080"))).is_err());
        assert!(!run("nft list table ip skep").contains("8080"));
        std::net::TcpListener::bind("0.0.0.0:8080").expect("free again");
    });
}

#[test]
fn networks_are_apart() {
    on_a_host("local::networks_are_apart", |host: Host| async move {
        let net = host.start().await;
        let mut closed = network("closed");
        closed.internal = true;
        closed.ipam = vec![IpamSpec { subnet: "10.9.0.0/24".parse().ok(), ..IpamSpec::default() }];
        let mut quiet = network("quiet");
        quiet.options.insert("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned());
        for request in [network("open"), closed, quiet] {
            net.create_network(request).await.expect("network");
        }
        let mut at = Vec::new();
        for (number, name) in
            [(0xa1, "open"), (0xa2, "closed"), (0xa3, "closed"), (0xa4, "quiet"), (0xa5, "quiet")]
        {
            let spec = host.spec(number, &format!("{name}-{number:x}"));
            let id = spec.id.clone();
            net.create_sandbox(spec).await.expect("sandbox");
            let made = net.connect(&id, vec![on(name)]).await.expect("connect");
            serve_tcp(&net.sandbox(&id).expect("info").key, 80, name);
            at.push((host.enter(id.short(12)), made[0].ipv4));
        }
        let reach = |from: usize, to: usize| {
            try_run(&format!("{} curl -sS --max-time 1 http://{}", at[from].0, at[to].1)).is_ok()
        };
        assert!(reach(1, 2), "neighbours on a closed network");
        assert!(!reach(0, 1) && !reach(1, 0), "closed to others");
        assert!(!reach(3, 4), "neighbours that may not talk");
        assert!(!reach(0, 3) && !reach(3, 0), "between networks");
        assert!(try_run(&format!("{} ping -c1 -W1 {CLIENT}", at[1].0)).is_err(), "no way out");
        run(&format!("{} ping -c1 -W2 {CLIENT}", at[3].0));
        // Static addresses, and what is refused.
        let spec = host.spec(0xb1, "static");
        let id = SandboxId::new(spec.id.as_str());
        net.create_sandbox(spec).await.expect("sandbox");
        let mut wish = on("closed");
        wish.ipv4 = "10.9.0.77".parse().ok();
        assert_eq!(
            net.connect(&id, vec![wish.clone()]).await.expect("static")[0].ipv4.to_string(),
            "10.9.0.77"
        );
        let mut outside = on("open");
        outside.ipv4 = "10.9.0.78".parse().ok();
        assert!(matches!(
            net.connect(&id, vec![outside]).await,
            Err(NetError::AddressOutside { .. })
        ));
        let mut overlap = network("overlap");
        overlap.ipam =
            vec![IpamSpec { subnet: "10.9.0.128/25".parse().ok(), ..IpamSpec::default() }];
        let error = net.create_network(overlap).await.expect_err("overlap");
        assert!(
            error.to_string().contains("Pool overlaps with other one on this address space"),
            "{error}"
        );
        assert!(matches!(
            net.create_network(network("open")).await,
            Err(NetError::NetworkNameTaken(_))
        ));
        assert!(matches!(net.remove_network("bridge").await, Err(NetError::NetworkPredefined(_))));
        assert!(matches!(net.network("nothing"), Err(NetError::NetworkNotFound(_))));
        // A pool that a route of the host uses is left out.
        run(&format!("ip route add 172.21.0.0/16 via {CLIENT}"));
        let made = net.create_network(network("routed")).await.expect("network");
        assert_eq!(made.subnets[0].subnet.to_string(), "172.20.0.0/16");
        let made = net.create_network(network("routed2")).await.expect("network");
        assert_eq!(made.subnets[0].subnet.to_string(), "172.22.0.0/16");
    });
}
