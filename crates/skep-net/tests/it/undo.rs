//! Changes of which a step fails.

use crate::harness::{Host, on, on_a_host, run, serve_dns, tcp};
use skep_net::{Net, NetworkCreate, SandboxAdoption};
use skep_sys::netns::NetNs;
use std::path::{Path, PathBuf};

fn network(name: &str) -> NetworkCreate {
    NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() }
}

/// Makes a file unreadable and unwritable, also for root, or a file again.
fn spoil(path: &Path) {
    std::fs::remove_file(path).expect("file");
    std::fs::create_dir(path).expect("folder");
}

fn repair(path: &Path) {
    std::fs::remove_dir(path).expect("folder");
    std::fs::write(path, "").expect("file");
}

fn hosts(resolv_conf: &Path) -> String {
    std::fs::read_to_string(resolv_conf.with_file_name("hosts")).expect("hosts")
}

/// What a sandbox has of the networks that it is on.
fn links(host: &Host, pin: &str) -> usize {
    run(&format!("{} ip -br link", host.enter(pin))).matches("eth").count()
}

#[test]
fn a_failed_connection_leaves_nothing_and_no_disconnection_stops_half_way() {
    let name = "undo::a_failed_connection_leaves_nothing_and_no_disconnection_stops_half_way";
    on_a_host(name, |host: Host| async move {
        serve_dns();
        let net = Net::start(host.breakable()).await.expect("start");
        net.create_network(network("web")).await.expect("network");
        let mut spec = host.spec(0xaa, "a");
        spec.ports = vec![tcp(8080, 80)];
        let (id, pin) = (spec.id.clone(), "aaaaaaaaaaaa");
        let resolv_conf: PathBuf = spec.files_dir.join("resolv.conf");
        net.create_sandbox(spec).await.expect("sandbox");

        // The last step fails, and something else happens to the container meanwhile.
        spoil(&resolv_conf);
        let (connected, renamed) =
            tokio::join!(net.connect(&id, vec![on("web")]), net.rename(&id, "new"));
        renamed.expect("rename");
        connected.expect_err("resolv.conf cannot be written");
        let found = net.sandbox(&id).expect("sandbox");
        assert!(found.endpoints.is_empty() && found.ports.is_empty() && !found.embedded_dns);
        assert!(net.dns_sockets(&id).expect("sockets").is_empty());
        assert!(std::net::TcpListener::bind("0.0.0.0:8080").is_ok(), "a port is still held");
        assert_eq!(links(&host, pin), 0);
        assert!(!hosts(&resolv_conf).contains("172.18.0.2"));

        // Nothing of it is in the way of the next.
        repair(&resolv_conf);
        net.connect(&id, vec![on("web")]).await.expect("connect");
        let named = net.inspect("web").expect("network").containers;
        assert!(named.values().all(|c| c.name == "new"), "{named:?}");
        let found = run(&format!("{} dig @127.0.0.11 +short new.web", host.enter(pin)));
        assert_eq!(found.trim(), "172.18.0.2");

        // A disconnection does what it can, and the loop the rest.
        host.break_rules(pin);
        net.disconnect(&id, "web").await.expect_err("no rule can be changed");
        assert!(net.sandbox(&id).expect("sandbox").endpoints.is_empty());
        assert!(!hosts(&resolv_conf).contains("172.18.0.2"), "{}", hosts(&resolv_conf));
        host.mend_rules();
        assert_eq!(net.reconcile().await.failures, 0);
        assert_eq!(links(&host, pin), 0);
        net.connect(&id, vec![on("web")]).await.expect("connect");

        // Where no resolver can be had when a daemon begins, it is that container's trouble.
        let second = host.spec(0xbb, "b");
        let ids = [id, second.id.clone()];
        net.create_sandbox(second).await.expect("sandbox");
        net.connect(&ids[1], vec![on("web")]).await.expect("connect");
        net.shutdown().await;
        drop(net);
        let net = Net::start(host.breakable()).await.expect("start");
        // There is one port for a resolver, and somebody has it.
        let range = "echo 20000 20000 >/proc/sys/net/ipv4/ip_local_port_range";
        run(&format!("{} sh -c '{range}'", host.enter(pin)));
        let bind = || std::net::UdpSocket::bind("127.0.0.11:20000");
        let _held = NetNs::open(&host.pin(pin)).expect("namespace").run(bind).expect("enter");
        let adoption =
            |id: &skep_net::SandboxId| SandboxAdoption { id: id.clone(), dns_sockets: Vec::new() };
        net.adopt(ids.iter().map(adoption).collect()).await.expect("adopt");
        let resolvers = ids.each_ref().map(|id| net.dns_sockets(id).expect("sockets").len());
        assert_eq!(resolvers, [0, 2]);
        let found = run(&format!("{} dig @127.0.0.11 +short b", host.enter("bbbbbbbbbbbb")));
        assert_eq!(found.trim(), "172.18.0.3");
        net.shutdown().await;
    });
}
