//! A daemon that dies and comes back, and a kernel that somebody meddled with.

use crate::harness::{CLIENT, HOST, Host, curl, on, on_a_host, run, serve_tcp, tcp, wait};
use skep_net::{NetworkCreate, SandboxAdoption};

#[test]
fn a_new_daemon_disturbs_nothing() {
    on_a_host("adoption::a_new_daemon_disturbs_nothing", |host: Host| async move {
        let net = host.start().await;
        net.create_network(NetworkCreate { name: "web".to_owned(), ..NetworkCreate::default() })
            .await
            .expect("network");
        let mut spec = host.spec(0xaa, "web");
        spec.ports = vec![tcp(8080, 80)];
        let id = spec.id.clone();
        net.create_sandbox(spec).await.expect("sandbox");
        net.connect(&id, vec![on("web")]).await.expect("connect");
        let gone = host.spec(0xbb, "gone");
        net.create_sandbox(gone).await.expect("sandbox");
        serve_tcp(&host.pin("aaaaaaaaaaaa"), 80, "web");
        let held = net.dns_sockets(&id).expect("sockets");
        assert_eq!(held.len(), 2);
        let generation = || {
            run(
                "nft monitor trace >/dev/null 2>&1 & sleep 0.1; kill $!; nft -a list ruleset | md5sum",
            )
        };
        let before = generation();
        let ports = run(&format!("{} nft list ruleset", host.enter("aaaaaaaaaaaa")));
        // As after kill -9: nothing is undone, the sockets stay with their holder.
        net.shutdown().await;
        drop(net);
        assert_eq!(host.client(&curl(&format!("http://{HOST}:8080"))), format!("web {CLIENT}\n"));

        let net = host.start().await;
        assert_eq!(net.reconcile().await.repairs, 0);
        let unknown = net
            .adopt(vec![SandboxAdoption { id: id.clone(), dns_sockets: held }])
            .await
            .expect("adopt");
        assert!(unknown.is_empty());
        assert_eq!(generation(), before, "rules were written again");
        assert_eq!(run(&format!("{} nft list ruleset", host.enter("aaaaaaaaaaaa"))), ports);
        assert_eq!(host.pins(), ["aaaaaaaaaaaa", "default"]);
        assert_eq!(host.client(&curl(&format!("http://{HOST}:8080"))), format!("web {CLIENT}\n"));
        assert_eq!(
            run(&format!("{} dig @127.0.0.11 +short web", host.enter("aaaaaaaaaaaa"))).trim(),
            "172.18.0.2"
        );
        assert_eq!(net.sandbox(&id).expect("info").ports[0].host_port, 8080);
        std::net::TcpListener::bind("0.0.0.0:8080").expect_err("held again");

        // Meddling is found and put right.
        run("nft flush ruleset");
        run("ip link set docker0 down");
        run(&format!("{} ip addr flush dev eth0", host.enter("aaaaaaaaaaaa")));
        let port = run("ip -br link show type veth")
            .lines()
            .find(|l| l.starts_with("veth"))
            .map(str::to_owned);
        let port = port.and_then(|l| l.split('@').next().map(str::to_owned)).expect("port");
        run(&format!("ip link set {port} nomaster"));
        let report = net.reconcile().await;
        assert!(report.repairs >= 4 && report.failures == 0, "{report:?}");
        wait("the port to answer again", || {
            host.try_client(&curl(&format!("http://{HOST}:8080")))
                .is_ok_and(|t| t == format!("web {CLIENT}\n"))
        });
        assert_eq!(net.reconcile().await.repairs, 0);

        // Without anyone in use everything goes.
        net.shutdown().await;
        drop(net);
        let net = host.start().await;
        net.adopt(Vec::new()).await.expect("adopt");
        assert_eq!(host.pins(), ["default"]);
        crate::harness::no_cables();
    });
}

#[test]
fn damaged_state_files_stop_nothing() {
    on_a_host("adoption::damaged_state_files_stop_nothing", |host: Host| async move {
        let net = host.start().await;
        net.create_network(NetworkCreate { name: "web".to_owned(), ..NetworkCreate::default() })
            .await
            .expect("network");
        let mut spec = host.spec(0xaa, "web");
        spec.ports = vec![tcp(8080, 80)];
        let id = spec.id.clone();
        net.create_sandbox(spec).await.expect("sandbox");
        net.connect(&id, vec![on("web")]).await.expect("connect");
        net.enable_service(&id).await.expect("another generation");
        serve_tcp(&host.pin("aaaaaaaaaaaa"), 80, "web");
        let web = net.network("web").expect("web");
        net.shutdown().await;
        drop(net);

        let config = host.config();
        let networks = config.data_root.join("network/networks.json");
        let running = config.exec_root.join("net/running.json");
        let newer = r#"{"format":2,"boot":["another","shape"],"networks":7}"#;
        for (file, content) in
            [(&networks, ""), (&running, "{\"boot\":\"x"), (&networks, newer), (&running, newer)]
        {
            std::fs::write(file, content).expect("damage");
            let net = host.start().await;
            let adoption = SandboxAdoption { id: id.clone(), dns_sockets: Vec::new() };
            assert!(
                net.adopt(vec![adoption]).await.expect("adopt").is_empty(),
                "{}",
                file.display()
            );
            assert_eq!(net.network("web").expect("web"), web);
            assert_eq!(net.sandbox(&id).expect("sandbox").endpoints[0].network_id, web.id);
            assert_eq!(
                host.client(&curl(&format!("http://{HOST}:8080"))),
                format!("web {CLIENT}\n")
            );
            net.shutdown().await;
        }
        for (file, content) in [("networks.json.damaged", ""), ("networks.json.damaged-2", newer)] {
            let kept = std::fs::read_to_string(networks.with_file_name(file)).expect("kept");
            assert_eq!(kept, content);
        }

        // After a reboot nothing is left of it: the predefined networks work.
        std::fs::write(&networks, "").expect("damage");
        std::fs::write(&running, "").expect("damage");
        std::fs::write(running.with_extension("json.before"), "").expect("damage");
        let net = host.start().await;
        assert!(net.network("bridge").is_ok() && net.network("web").is_err());
        let third = networks.with_file_name("networks.json.damaged-3");
        assert_eq!(std::fs::read_to_string(third).expect("kept"), "");
        net.adopt(Vec::new()).await.expect("adopt");
        net.create_sandbox(host.spec(0xbb, "later")).await.expect("sandbox");
        net.shutdown().await;
    });
}
