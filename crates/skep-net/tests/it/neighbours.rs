//! A host on which others have networks, too.

use crate::harness::{CLIENT, HOST, Host, curl, on, on_a_host, run, serve_tcp, tcp, try_run, wait};
use skep_net::{Net, NetConfig, NetError, NetworkCreate};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

/// A container called `name` on the default bridge, whose port 80 is published as 8080.
async fn published(host: &Host, net: &Net, name: &str) {
    let mut spec = host.spec(0xaa, name);
    spec.ports = vec![tcp(8080, 80)];
    let id = spec.id.clone();
    net.create_sandbox(spec).await.expect("sandbox");
    net.connect(&id, vec![on("bridge")]).await.expect("connect");
    serve_tcp(&host.pin("aaaaaaaaaaaa"), 80, name);
}

fn ask(host: &Host) -> Result<String, String> {
    host.try_client(&curl(&format!("http://{HOST}:8080")))
}

fn bridge_of(net: &Net, network: &str) -> String {
    let found = net.network(network).expect("network");
    found.bridge_name()
}

#[test]
fn anothers_bridge_is_left_alone() {
    on_a_host("neighbours::anothers_bridge_is_left_alone", |host: Host| async move {
        run("ip link add docker0 type bridge");
        run("ip addr add 172.17.0.1/16 dev docker0");
        run("ip link set docker0 up");
        let before = run("ip -o link show docker0; ip -o -4 addr show docker0");
        let net = host.start().await;
        published(&host, &net, "ours").await;
        let bridge = bridge_of(&net, "bridge");
        assert!(bridge.starts_with("br-"), "{bridge}");
        assert_eq!(run("ip -o link show docker0; ip -o -4 addr show docker0"), before);
        assert!(run(&format!("ip -4 -br addr show {bridge}")).contains("172.18.0.1/16"));
        assert_eq!(ask(&host), Ok(format!("ours {CLIENT}\n")));

        // The name becomes free: the container stays where it is, over a restart as well.
        net.shutdown().await;
        drop(net);
        run("ip link del docker0");
        let net = host.start().await;
        assert_eq!(bridge_of(&net, "bridge"), bridge);
        assert_eq!(ask(&host), Ok(format!("ours {CLIENT}\n")));

        // Taken while the daemon was away, with our subnet.
        net.adopt(Vec::new()).await.expect("adopt");
        net.shutdown().await;
        drop(net);
        run(&format!("ip link del {bridge}"));
        run("ip link add docker0 type bridge");
        run("ip addr add 172.18.0.1/16 dev docker0");
        run("ip link set docker0 up");
        let before = run("ip -o link show docker0; ip -o -4 addr show docker0");
        let net = host.start().await;
        assert_eq!(net.problems(), Vec::<String>::new());
        let bridge = bridge_of(&net, "bridge");
        assert!(run(&format!("ip -4 -br addr show {bridge}")).contains("172.17.0.1/16"));
        assert_eq!(run("ip -o link show docker0; ip -o -4 addr show docker0"), before);
    });
}

#[test]
fn a_network_takes_no_interface_of_somebody_else() {
    on_a_host(
        "neighbours::a_network_takes_no_interface_of_somebody_else",
        |host: Host| async move {
            run("ip link add mine type bridge");
            run("ip addr add 10.50.0.1/24 dev mine");
            run("ip link set mine up");
            let before = run("ip -o link show mine; ip -o -4 addr show mine");
            let net = host.start().await;
            let asked = |bridge: &str| NetworkCreate {
                name: "n".to_owned(),
                options: [("com.docker.network.bridge.name".to_owned(), bridge.to_owned())].into(),
                ..NetworkCreate::default()
            };
            let refused =
                net.create_network(asked("mine")).await.expect_err("somebody's").to_string();
            assert!(
                refused.contains("mine") && refused.contains("choose another name"),
                "{refused}"
            );
            assert_eq!(run("ip -o link show mine; ip -o -4 addr show mine"), before);
            // One that is ours may be had again, as after a restart.
            net.create_network(asked("ours")).await.expect("a free name");
            net.remove_network("n").await.expect("remove");
            net.shutdown().await;
        },
    );
}

#[test]
fn anothers_namespaces_are_left_alone() {
    on_a_host("neighbours::anothers_namespaces_are_left_alone", |host: Host| async move {
        let pins = host.dir.path().join("exec/netns");
        std::fs::create_dir_all(&pins).expect("folder");
        let names = ["0123456789ab", "bbbbbbbbbbbb"];
        for name in names {
            let pin = pins.join(name);
            std::fs::write(&pin, "").expect("file");
            run(&format!("unshare --net={} true", pin.display()));
        }
        let net = host.start().await;
        net.reconcile().await;
        assert_eq!(host.pins(), [names[0], names[1], "default"]);
        // One has the name that a sandbox of ours would have.
        let refused = net.create_sandbox(host.spec(0xbb, "clash")).await.expect_err("not ours");
        let text = skep_types::report(&refused);
        assert!(text.contains("skep did not make"), "{text}");
        // Nothing of it is left to be tried again, and what is the other's stays.
        wait("the failed sandbox to be forgotten", || net.problems().is_empty());
        net.reconcile().await;
        assert_eq!(host.pins(), [names[0], names[1], "default"]);
        // Those of ours come and go.
        net.create_sandbox(host.spec(0xaa, "ours")).await.expect("sandbox");
        net.shutdown().await;
        drop(net);
        let net = host.start().await;
        net.adopt(Vec::new()).await.expect("adopt");
        assert_eq!(host.pins(), [names[0], names[1], "default"]);
    });
}

#[test]
fn two_daemons_do_not_share_a_host() {
    on_a_host("neighbours::two_daemons_do_not_share_a_host", |host: Host| async move {
        let other = || NetConfig::new(host.dir.path().join("exec2"), host.dir.path().join("data2"));
        // Somebody else has taken such addresses, and lets nobody in any more.
        let _squatters: Vec<_> = ["skep-network", "skep-network-0000000000000000"]
            .into_iter()
            .map(|name| std::thread::spawn(move || squat(name)).join().expect("squat"))
            .collect();
        let net = host.start().await;
        published(&host, &net, "first").await;
        let rules = run("nft list ruleset");
        assert!(matches!(Net::start(other()).await.map(drop), Err(NetError::HostManaged)));
        assert_eq!(ask(&host), Ok(format!("first {CLIENT}\n")));

        // It is gone, but not what it made.
        net.shutdown().await;
        drop(net);
        let refused = Net::start(other()).await.map(drop).expect_err("another's rules");
        let text = refused.to_string();
        assert!(text.contains(&host.dir.path().join("data").display().to_string()), "{text}");
        assert_eq!(run("nft list ruleset"), rules);
        assert_eq!(ask(&host), Ok(format!("first {CLIENT}\n")));

        // As the message says.
        run("nft delete table ip skep");

        // Nor is it somebody else's who likes the name, unless it is empty.
        run("nft 'add table ip skep; add chain ip skep mine; add rule ip skep mine drop'");
        let rules = run("nft list ruleset");
        let refused = Net::start(other()).await.map(drop).expect_err("somebody's rules");
        assert!(refused.to_string().contains("nft delete table ip skep"), "{refused}");
        assert_eq!(run("nft list ruleset"), rules);
        run("nft 'delete chain ip skep mine'");
        let net = Net::start(other()).await.expect("start");
        assert!(run("nft list table ip skep").contains("data2"));
        net.shutdown().await;
    });
}

/// Listens at an abstract address as nobody, and fills the queue of those who wait to be let in.
fn squat(name: &str) -> (UnixListener, Vec<OwnedFd>) {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
    };
    use std::os::fd::AsRawFd as _;
    // The user of file systems is the thread's own, and whose a socket is.
    nix::unistd::setfsuid(65534.into());
    let new = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("socket")
    };
    let address = UnixAddr::new_abstract(name.as_bytes()).expect("address");
    let listener = new();
    bind(listener.as_raw_fd(), &address).expect("bind");
    listen(&listener, Backlog::new(1).expect("backlog")).expect("listen");
    let mut waiting = Vec::new();
    loop {
        let client = new();
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => waiting.push(client),
            Err(_) => return (listener.into(), waiting),
        }
    }
}

#[test]
fn a_firewall_that_iptables_cannot_read_is_no_obstacle() {
    on_a_host(
        "neighbours::a_firewall_that_iptables_cannot_read_is_no_obstacle",
        |host: Host| async move {
            run("nft add table ip filter");
            run(
                "nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy accept; }'",
            );
            run("nft add rule ip filter FORWARD fib daddr type multicast drop");
            try_run("iptables -S").expect_err("or this is no such firewall");
            let net = host.start().await;
            published(&host, &net, "ours").await;
            assert_eq!(net.reconcile().await.failures, 0);
            assert_eq!(ask(&host), Ok(format!("ours {CLIENT}\n")));
        },
    );
}

#[test]
fn a_firewall_that_drops_is_passed() {
    on_a_host("neighbours::a_firewall_that_drops_is_passed", |host: Host| async move {
        run("iptables -P FORWARD DROP");
        let net = host.start().await;
        published(&host, &net, "ours").await;
        assert_eq!(ask(&host), Ok(format!("ours {CLIENT}\n")));
        // What somebody wrote to drop stays dropped.
        run("iptables -N DOCKER-USER");
        run("iptables -A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 -j DROP");
        run("iptables -I FORWARD -j DOCKER-USER");
        ask(&host).expect_err("the user's rule");
        run("iptables -F DOCKER-USER");
        // Flushed, as a firewall does that is loaded anew: the way is made again without being asked.
        run("iptables -F FORWARD");
        wait("the way past the firewall", || {
            ask(&host).is_ok_and(|answer| answer == format!("ours {CLIENT}\n"))
        });
        let listing = run("iptables -S");
        assert_eq!(listing.matches("-A FORWARD -j SKEP-FORWARD").count(), 1, "{listing}");
        // It goes with its reason.
        run("iptables -P FORWARD ACCEPT");
        run("iptables -F FORWARD");
        run("iptables -X DOCKER-USER");
        wait("the chain to go", || {
            !try_run("iptables -S").is_ok_and(|t| t.contains("SKEP-FORWARD"))
        });
    });
}
