//! Traces of ways that were broken by hand: each says where and why, and is good again after a repair.

use crate::harness::{CLIENT, HOST, Host, on_a_host, run, try_run, wait};
use crate::swarm::{INGRESS, WEB, client, join, task, task_at};
use skep_net::{
    Net, NetConfig, RemoteChange, TraceOutcome as Outcome, TraceQuery, TraceReason as Reason,
    TraceVerdict as Verdict,
};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// What is asked: from where, for what.
type Way = (&'static str, &'static str);

/// The mesh's port of a service whose task is here.
const MESH: Way = ("outside", "8091");
/// The mesh's own address, which has nobody but that task to lead to: over the ingress network.
const BEHIND: Way = ("host", "172.18.0.2:8091");
/// The same service from a container.
const NAME: Way = ("client.9", "web:80");
/// The mesh's port of a service whose task is on another host.
const FAR_MESH: Way = ("outside", "8092");
/// That service from a container.
const FAR_NAME: Way = ("client.9", "far:80");
const WAYS: [Way; 5] = [MESH, BEHIND, NAME, FAR_MESH, FAR_NAME];

/// A host with one task, a client container, and what another host told of a task of its own.
struct Broken {
    host: Host,
    net: Net,
    /// While this file exists, rules cannot be put back.
    stuck: PathBuf,
}

impl Broken {
    async fn new(host: Host) -> Self {
        let stuck = host.dir.path().join("stuck");
        let nft = host.dir.path().join("nft");
        // Rules are written with -f.
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = -f ] && [ -e {} ] && exit 1\nexec nft \"$@\"\n",
            stuck.display()
        );
        std::fs::write(&nft, script).expect("script");
        std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).expect("script");
        let config = NetConfig { nft, ..host.config() };
        let net = Net::start(config).await.expect("start");
        join(&net).await;
        let id = task(&host, &net, 1).await;
        net.enable_service(&id).await.expect("enable");
        client(&host, &net, 9).await;
        for (network, third, port) in [(INGRESS, 0, Some(8092)), (WEB, 5, None)] {
            net.apply_remote(far(network, third, port)).await.expect("apply");
        }
        let broken = Self { host, net, stuck };
        // Where it answers, the neighbour on the cable is known.
        broken.host.client(&format!("ping -c1 -W2 {}", crate::harness::HOST));
        for way in WAYS {
            broken.good(way).await;
        }
        broken
    }

    async fn ask(&self, (from, target): Way) -> Verdict {
        let query = TraceQuery {
            target: target.to_owned(),
            from: from.to_owned(),
            ..TraceQuery::default()
        };
        self.net.trace(query).await.expect("a question that makes sense").verdict
    }

    async fn good(&self, way: Way) {
        let verdict = self.ask(way).await;
        let expected =
            if matches!(way, FAR_MESH | FAR_NAME) { Outcome::Remote } else { Outcome::Delivered };
        assert_eq!(
            (verdict.outcome, verdict.reason),
            (expected, Reason::Ok),
            "{way:?}: {verdict:?}"
        );
    }

    /// Breaks something, asserts what the trace says of it, and has it repaired. `mend` undoes what is not
    /// ours to repair.
    async fn case(
        &self,
        damage: &str,
        mend: &str,
        way: Way,
        (outcome, reason, at, text): (Outcome, Reason, &str, &str),
    ) {
        std::fs::write(&self.stuck, "").expect("flag");
        let mut verdict;
        let mut tries = 0;
        // Links and routes are back a fifth of a second after they went: a trace that came too late saw
        // nothing wrong.
        loop {
            run(damage);
            verdict = self.ask(way).await;
            if !verdict.outcome.is_good() {
                break;
            }
            tries += 1;
            assert!(tries < 10, "{damage}: {verdict:?}");
            wait(damage, || self.net.problems().is_empty());
        }
        assert!(
            (verdict.outcome, verdict.reason, verdict.at.as_str()) == (outcome, reason, at)
                && verdict.text.contains(text),
            "{damage}: {verdict:?}"
        );
        std::fs::remove_file(&self.stuck).expect("flag");
        if !mend.is_empty() {
            run(mend);
        }
        self.net.reconcile().await;
        for way in WAYS {
            self.good(way).await;
        }
    }
}

/// What another host says of its task of service `far`.
fn far(network: &str, third: u8, published: Option<u16>) -> Vec<RemoteChange> {
    let vip = Ipv4Addr::new(10, 0, third, 77);
    crate::swarm::far(("far", Some(vip)), network, third, published)
}

/// The other end of an interface's cable. `inner` and `outer` are prefixes that enter the two namespaces.
fn port(inner: &str, interface: &str, outer: &str) -> String {
    let own = run(&format!("{inner} ip -o link show {interface}"));
    let index = own.split("@if").nth(1).and_then(|rest| rest.split(':').next());
    let index = format!("{}: ", index.expect("the other end"));
    let ports = run(&format!("{outer} ip -o link"));
    let port = ports.lines().find_map(|line| line.strip_prefix(&index)?.split('@').next());
    port.expect("the port").to_owned()
}

#[test]
fn rules_that_somebody_took_are_named() {
    on_a_host("trace::rules_that_somebody_took_are_named", |host: Host| async move {
        let broken = Broken::new(host).await;
        let nft = |pin: &str, words: &str| format!("{} nft {words}", broken.host.enter(pin));
        let missing = |outcome, at, text| (outcome, Reason::RuleMissing, at, text);
        // The port's socket takes the connection, and nobody answers.
        broken
            .case(
                "nft flush chain ip skep nat-prerouting",
                "",
                MESH,
                missing(
                    Outcome::Astray,
                    "host",
                    "no rule leads 10.77.0.1:8091/tcp on to 172.18.0.3:80",
                ),
            )
            .await;
        for words in ["flush chain ip skep nat-prerouting", "delete table ip skep"] {
            broken
                .case(
                    &nft("ingress_sbox", words),
                    "",
                    FAR_MESH,
                    missing(
                        Outcome::Refused,
                        "ingress_sbox",
                        "no rule leads 172.18.0.2:8092/tcp on to 10.0.0.107:80",
                    ),
                )
                .await;
        }
        broken
            .case(
                &nft("010101010101", "flush chain ip skep way-back"),
                "",
                BEHIND,
                (
                    Outcome::Dropped,
                    Reason::WayBack,
                    "010101010101",
                    "its answers would leave by eth2",
                ),
            )
            .await;
        broken
            .case(
                &nft("090909090909", "flush chain ip skep vip-10-0-5-2"),
                "",
                NAME,
                missing(
                    Outcome::Refused,
                    "lb_i0ylvjdz6",
                    "in 090909090909, no rule leads 10.0.5.2:80/tcp on to 10.0.5.101:80",
                ),
            )
            .await;
        // Somebody's own table is shown, and left alone.
        broken
            .case(
                "nft 'add table inet evil; add chain inet evil in { type filter hook forward priority 0; }; \
                 add rule inet evil in meta l4proto tcp ct original proto-dst 8091 drop'",
                "nft delete table inet evil",
                MESH,
                (Outcome::Dropped, Reason::ForeignRule, "host", "table inet evil, chain in"),
            )
            .await;
    });
}

#[test]
fn links_that_are_down_or_gone_are_named() {
    on_a_host("trace::links_that_are_down_or_gone_are_named", |host: Host| async move {
        let broken = Broken::new(host).await;
        let enter = |pin: &str| broken.host.enter(pin);
        let (web, ingress) = ("1-i0ylvjdz6s", "1-yewz22nd9r");
        let dropped = |reason, at, text| (Outcome::Dropped, reason, at, text);
        let nearby = port(&enter("010101010101"), "eth2", "");
        let port = port(&enter("010101010101"), "eth0", &enter(ingress));
        for (damage, way, says) in [
            (
                format!("{} ip link set vxlan0 down", enter(web)),
                FAR_NAME,
                dropped(Reason::LinkDown, web, "vxlan0 is down"),
            ),
            (
                format!("{} ip link set vxlan0 down", enter(ingress)),
                FAR_MESH,
                dropped(Reason::LinkDown, ingress, "vxlan0 is down"),
            ),
            (
                format!("{} ip link set br0 down", enter(ingress)),
                BEHIND,
                dropped(Reason::LinkDown, ingress, "interface br0 is down"),
            ),
            (
                format!("{} ip link set {port} down", enter(ingress)),
                BEHIND,
                dropped(Reason::LinkDown, ingress, "is down"),
            ),
            (
                format!("{} ip link set {port} nomaster", enter(ingress)),
                BEHIND,
                dropped(Reason::LinkDetached, ingress, "is not on bridge br0"),
            ),
            (
                format!("{} ip link set eth0 down", enter("ingress_sbox")),
                FAR_MESH,
                (
                    Outcome::Refused,
                    Reason::LinkDown,
                    "host",
                    "in ingress_sbox, interface eth0 is down",
                ),
            ),
            (
                format!("{} ip link del vxlan0", enter(web)),
                FAR_NAME,
                dropped(Reason::LinkMissing, web, "bridge br0 has no VXLAN device"),
            ),
            (
                format!("{} ip link del eth0", enter("010101010101")),
                BEHIND,
                dropped(Reason::LinkMissing, ingress, "is gone"),
            ),
            (
                format!("{} ip addr del 10.0.0.101/24 dev eth0", enter("010101010101")),
                BEHIND,
                dropped(Reason::LinkMissing, "010101010101", "has lost the address 10.0.0.101"),
            ),
            (
                format!("ip link set {nearby} down"),
                MESH,
                dropped(Reason::LinkDown, "host", "is down"),
            ),
            (
                format!("{} ip link del eth2", enter("010101010101")),
                MESH,
                dropped(Reason::LinkMissing, "host", "is gone"),
            ),
        ] {
            broken.case(&damage, "", way, says).await;
        }
        // The host's own cable is nobody's to repair.
        broken
            .case(
                "ip link set h0 down",
                "ip link set h0 up",
                MESH,
                dropped(Reason::LinkDown, "host", "interface h0 is down"),
            )
            .await;
    });
}

#[test]
fn entries_and_routes_that_are_gone_are_named() {
    on_a_host("trace::entries_and_routes_that_are_gone_are_named", |host: Host| async move {
        let broken = Broken::new(host).await;
        let enter = |pin: &str| broken.host.enter(pin);
        let (web, ingress) = ("1-i0ylvjdz6s", "1-yewz22nd9r");
        for (damage, way, says) in [
            (
                format!("{} ip neigh del 10.0.5.107 dev vxlan0", enter(web)),
                FAR_NAME,
                (
                    Outcome::Dropped,
                    Reason::NoForwardingEntry,
                    web,
                    "vxlan0 has no neighbour entry for 10.0.5.107, which is on 10.77.0.9",
                ),
            ),
            (
                format!("{} ip neigh del 10.0.0.107 dev vxlan0", enter(ingress)),
                FAR_MESH,
                (
                    Outcome::Dropped,
                    Reason::NoForwardingEntry,
                    ingress,
                    "no neighbour entry for 10.0.0.107",
                ),
            ),
            (
                format!("{} bridge fdb del 02:42:0a:00:05:6b dev vxlan0 dst {CLIENT}", enter(web)),
                FAR_NAME,
                (
                    Outcome::Dropped,
                    Reason::NoForwardingEntry,
                    web,
                    "vxlan0 has no forwarding entry for 02:42:0a:00:05:6b",
                ),
            ),
            (
                format!("{} ip route del 10.0.0.0/24 dev eth0", enter("ingress_sbox")),
                BEHIND,
                (
                    Outcome::Refused,
                    Reason::NoRoute,
                    "host",
                    "in ingress_sbox, the route over eth0 is gone: 10.0.0.101 should be reached by it",
                ),
            ),
            (
                format!("{} ip rule del pref 100", enter("010101010101")),
                BEHIND,
                (
                    Outcome::Dropped,
                    Reason::WayBack,
                    "010101010101",
                    "its answers would leave by eth2",
                ),
            ),
            (
                format!("{} sysctl -qw net.ipv4.ip_forward=0", enter("ingress_sbox")),
                BEHIND,
                (Outcome::Dropped, Reason::NotForwarding, "ingress_sbox", "ip_forward is 0"),
            ),
        ] {
            broken.case(&damage, "", way, says).await;
        }
        // The other host does not answer on the cable between.
        broken
            .case(
                &format!("ip neigh replace {CLIENT} dev h0 nud failed"),
                &format!("ip neigh del {CLIENT} dev h0"),
                FAR_NAME,
                (
                    Outcome::Dropped,
                    Reason::NodeUnreachable,
                    "host",
                    "10.77.0.9 does not answer on h0",
                ),
            )
            .await;
    });
}

#[test]
fn tasks_that_take_no_connections_are_named() {
    on_a_host("trace::tasks_that_take_no_connections_are_named", |host: Host| async move {
        let broken = Broken::new(host).await;
        let says = |verdict: Verdict, outcome, reason, at: &str, text: &str| {
            assert!(
                (verdict.outcome, verdict.reason, verdict.at.as_str()) == (outcome, reason, at)
                    && verdict.text.contains(text),
                "{verdict:?}"
            );
        };
        let (net, host) = (&broken.net, &broken.host);
        // The name leads to the task, which has no such port.
        says(
            broken.ask(("client.9", "web:81")).await,
            Outcome::Refused,
            Reason::PortClosed,
            "010101010101",
            "nobody in web.1 listens on 81/tcp (it listens on 80)",
        );
        let first = host.spec(1, "web.1").id;
        net.disable_service(&first).await.expect("disable");
        let leaving = "all 1 tasks of service web are leaving rotation";
        for (way, at) in [(MESH, "ingress_sbox"), (NAME, "lb_i0ylvjdz6")] {
            says(broken.ask(way).await, Outcome::Refused, Reason::AllDraining, at, leaving);
        }
        // One that is not in rotation yet does not help.
        let second = task(host, net, 2).await;
        says(
            broken.ask(MESH).await,
            Outcome::Refused,
            Reason::AllDraining,
            "ingress_sbox",
            leaving,
        );
        net.enable_service(&second).await.expect("enable");
        broken.good(MESH).await;
        net.remove_sandbox(&first).await.expect("remove");
        broken.good(MESH).await;
        // The other host says that its task leaves rotation.
        for (network, third, port) in [(INGRESS, 0, Some(8092)), (WEB, 5, None)] {
            let mut changes = far(network, third, port);
            for change in &mut changes {
                if let RemoteChange::Endpoint(_, _, Some(record)) = change {
                    record.disabled = true;
                }
            }
            net.apply_remote(changes).await.expect("apply");
        }
        let leaving = "all 1 tasks of service far are leaving rotation";
        says(
            broken.ask(FAR_MESH).await,
            Outcome::Refused,
            Reason::AllDraining,
            "ingress_sbox",
            leaving,
        );
        net.remove_sandbox(&second).await.expect("remove");
        says(
            broken.ask(MESH).await,
            Outcome::Refused,
            Reason::NotPublished,
            "host",
            "nobody publishes 8091/tcp",
        );
    });
}

#[test]
fn entries_that_lead_a_bridge_astray_are_named() {
    on_a_host("trace::entries_that_lead_a_bridge_astray_are_named", |host: Host| async move {
        let broken = Broken::new(host).await;
        let enter = |pin: &str| broken.host.enter(pin);
        let (web, ingress) = ("1-i0ylvjdz6s", "1-yewz22nd9r");
        let (in_web, in_ingress) = (enter(web), enter(ingress));
        let task = port(&enter("010101010101"), "eth0", &in_ingress);
        let client = port(&enter("090909090909"), "eth0", &in_web);
        let mesh = port(&enter("ingress_sbox"), "eth1", "");
        let task_gateway = port(&enter("010101010101"), "eth2", "");
        // The published port through docker_gwbridge as a gateway.
        let hairpin = ("client.9", "10.77.0.1:8091");
        let patient = |way: Way, seconds| {
            let url = match way {
                NAME => "10.0.5.101".to_owned(),
                BEHIND => "172.18.0.2:8091".to_owned(),
                _ => format!("{HOST}:8091"),
            };
            let ask = format!("curl -sS --max-time {seconds} http://{url}");
            match way.0 {
                "outside" => broken.host.client_command(&ask),
                "host" => ask,
                _ => format!("{} {ask}", enter("090909090909")),
            }
        };
        let request = |way| patient(way, 5);
        // What packets teach the bridges is right.
        for way in [MESH, BEHIND, NAME, hairpin] {
            run(&request(way));
            broken.good(way).await;
        }
        let (own, gateway) = ("02:42:ac:12:00:01", "02:42:ac:12:00:02");
        // Nothing but the daemon's look repairs overlays, and nothing the host's bridges: `mend` does.
        for (damage, mend, way, at, text) in [
            (
                format!(
                    "{in_ingress} bridge fdb replace 02:42:0a:00:00:65 dev vxlan0 master static sticky"
                ),
                String::new(),
                BEHIND,
                ingress,
                format!(
                    "a lasting entry of bridge br0 leads 02:42:0a:00:00:65 (10.0.0.101) to port vxlan0, \
                     not to port {task}"
                ),
            ),
            (
                format!("{in_ingress} bridge fdb replace 02:42:0a:00:00:65 dev br0 self permanent"),
                String::new(),
                BEHIND,
                ingress,
                format!("leads 02:42:0a:00:00:65 (10.0.0.101) to br0 itself, not to port {task}"),
            ),
            (
                // The right port, but as its own address.
                format!(
                    "{in_ingress} bridge fdb replace 02:42:0a:00:00:65 dev {task} master permanent"
                ),
                String::new(),
                BEHIND,
                ingress,
                format!("leads 02:42:0a:00:00:65 (10.0.0.101) to br0 itself, not to port {task}"),
            ),
            (
                // The way it came.
                format!(
                    "{in_web} bridge fdb replace 02:42:0a:00:05:65 dev {client} master static sticky"
                ),
                String::new(),
                NAME,
                web,
                format!("leads 02:42:0a:00:05:65 (10.0.5.101) to port {client}, not to port "),
            ),
            (
                format!(
                    "{in_web} bridge fdb replace 02:42:0a:00:05:6b dev {client} master static sticky"
                ),
                String::new(),
                FAR_NAME,
                web,
                format!(
                    "leads 02:42:0a:00:05:6b (10.0.5.107) to port {client}, not to port vxlan0"
                ),
            ),
            (
                format!("bridge fdb replace {gateway} dev {task_gateway} master static sticky"),
                format!("bridge fdb del {gateway} dev {task_gateway} master"),
                BEHIND,
                "host",
                format!(
                    "a lasting entry of bridge docker_gwbridge leads {gateway} (172.18.0.2) to port \
                     {task_gateway}, not to port {mesh}"
                ),
            ),
            (
                format!("bridge fdb replace {gateway} dev docker_gwbridge self permanent"),
                format!("bridge fdb del {gateway} dev docker_gwbridge self"),
                BEHIND,
                "host",
                format!("to docker_gwbridge itself, not to port {mesh}"),
            ),
            (
                format!("bridge fdb replace {own} dev {mesh} master static sticky"),
                format!("bridge fdb replace {own} dev docker_gwbridge self permanent"),
                hairpin,
                "host",
                format!("leads {own} (172.18.0.1) to port {mesh}, not to docker_gwbridge itself"),
            ),
            (
                // Twice: the second finds nothing.
                format!("bridge fdb del {own} dev docker_gwbridge self || true"),
                format!("bridge fdb add {own} dev docker_gwbridge self permanent"),
                hairpin,
                "host",
                format!("bridge docker_gwbridge has no entry for its own {own}"),
            ),
            (
                format!(
                    "{} ip neigh replace 10.0.0.101 lladdr 02:42:0a:00:00:99 dev eth0 nud permanent",
                    enter("ingress_sbox")
                ),
                format!("{} ip neigh del 10.0.0.101 dev eth0", enter("ingress_sbox")),
                BEHIND,
                ingress,
                "has 02:42:0a:00:00:99, but 10.0.0.101 is at 02:42:0a:00:00:65".to_owned(),
            ),
        ] {
            let says = (Outcome::Dropped, Reason::EntryDiffers, at, text.as_str());
            if way != FAR_NAME {
                // The trace and a real connection agree.
                run(&damage);
                try_run(&patient(way, 1)).expect_err(&damage);
            }
            broken.case(&damage, &mend, way, says).await;
            if way != FAR_NAME {
                run(&request(way));
            }
        }
        // On the right port an entry as its own leads what the host itself sends on, and an entry elsewhere
        // that may move does so with the answer to the first question.
        run(&format!("bridge fdb replace {gateway} dev {mesh} master permanent"));
        run(&request(BEHIND));
        broken.good(BEHIND).await;
        run(&format!("bridge fdb del {gateway} dev {mesh} master"));
        run("ip neigh flush dev docker_gwbridge");
        run(&format!("bridge fdb replace {gateway} dev {task_gateway} master static"));
        broken.good(BEHIND).await;
        run(&request(BEHIND));
        broken.good(BEHIND).await;
    });
}

#[test]
fn a_port_that_another_program_has_is_named() {
    on_a_host("trace::a_port_that_another_program_has_is_named", |host: Host| async move {
        let foreign = TcpListener::bind("0.0.0.0:8091").expect("the port");
        let net = host.start().await;
        join(&net).await;
        let id = task(&host, &net, 1).await;
        net.enable_service(&id).await.expect("enable");
        let ask = async || {
            let query = TraceQuery { target: MESH.1.to_owned(), ..TraceQuery::default() };
            net.trace(query).await.expect("a question that makes sense").verdict
        };
        let verdict = ask().await;
        assert!(
            (verdict.outcome, verdict.reason, verdict.at.as_str())
                == (Outcome::Astray, Reason::PortNotFree, "host")
                && verdict.text.contains("service web cannot have the port: ")
                && verdict.text.contains("another program on this host gets the connection"),
            "{verdict:?}"
        );
        // One that has it at another address only does not get the connection either.
        drop(foreign);
        let foreign = TcpListener::bind("127.0.0.1:8091").expect("the port");
        net.reconcile().await;
        let verdict = ask().await;
        assert_eq!(
            (verdict.outcome, verdict.reason),
            (Outcome::Refused, Reason::PortNotFree),
            "{verdict:?}"
        );
        drop(foreign);
        net.reconcile().await;
        let verdict = ask().await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Delivered, Reason::Ok));
    });
}

#[test]
fn a_namespace_that_is_missing_is_named() {
    on_a_host("trace::a_namespace_that_is_missing_is_named", |host: Host| async move {
        let net = host.start().await;
        join(&net).await;
        net.shutdown().await;
        drop(net);
        // The next daemon finds nothing there, and a folder is nothing to pin a namespace on.
        let pin = host.pin("ingress_sbox");
        run(&format!("umount {0} && rm {0} && mkdir {0}", pin.display()));
        let net = host.start().await;
        net.apply_remote(far(INGRESS, 0, Some(8092))).await.expect_err("no namespace");
        let ask = async || {
            let query = TraceQuery { target: FAR_MESH.1.to_owned(), ..TraceQuery::default() };
            net.trace(query).await.expect("a question that makes sense").verdict
        };
        let verdict = ask().await;
        assert!(
            (verdict.outcome, verdict.reason, verdict.at.as_str())
                == (Outcome::Dropped, Reason::NamespaceMissing, "host")
                && verdict.text == "namespace ingress_sbox cannot be read: it is not there",
            "{verdict:?}"
        );
        std::fs::remove_dir(&pin).expect("folder");
        net.reconcile().await;
        host.client(&format!("ping -c1 -W2 {HOST}"));
        let verdict = ask().await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Remote, Reason::Ok), "{verdict:?}");
    });
}

#[test]
fn a_packet_that_goes_in_circles_is_found_out() {
    on_a_host("trace::a_packet_that_goes_in_circles_is_found_out", |host: Host| async move {
        let broken = Broken::new(host).await;
        // Somebody's own rules: the host sends a port to the mesh, and the mesh sends it back.
        let rules = |to: &str| {
            format!(
                "nft 'add table ip evil; add chain ip evil in {{ type nat hook prerouting priority -150; }}; \
                 add rule ip evil in tcp dport 9000 dnat to {to}'"
            )
        };
        let mesh = broken.host.enter("ingress_sbox");
        let damage = format!("{} && {mesh} {}", rules("172.18.0.2"), rules(HOST));
        let mend = format!("nft delete table ip evil && {mesh} nft delete table ip evil");
        // The kernel thinks so too: a packet has used up its hops.
        run(&damage);
        broken
            .host
            .try_client(&format!("curl -sS --max-time 1 http://{HOST}:9000"))
            .expect_err("nobody is there");
        let died = |place: &str| {
            let told = run(&format!("{place} nstat -asz IcmpOutTimeExcds"));
            let count = told.lines().find_map(|l| l.strip_prefix("IcmpOutTimeExcds"));
            count.and_then(|c| c.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let died: u32 = died("") + died(&mesh);
        assert!(died > 0, "no packet went in circles");
        run(&mend);
        broken
            .case(
                &damage,
                &mend,
                ("outside", "9000"),
                (Outcome::Dropped, Reason::Loop, "ingress_sbox", "the packet goes in circles"),
            )
            .await;
    });
}

#[test]
fn a_rule_that_a_server_at_one_address_needs_is_missed() {
    on_a_host(
        "trace::a_rule_that_a_server_at_one_address_needs_is_missed",
        |host: Host| async move {
            let net = host.start().await;
            join(&net).await;
            let id = task_at(&host, &net, 1, Ipv4Addr::new(10, 0, 0, 101)).await;
            net.enable_service(&id).await.expect("enable");
            host.client(&format!("ping -c1 -W2 {HOST}"));
            let ask = async || {
                let query = TraceQuery { target: MESH.1.to_owned(), ..TraceQuery::default() };
                net.trace(query).await.expect("a question that makes sense").verdict
            };
            let verdict = ask().await;
            assert_eq!(
                (verdict.outcome, verdict.reason),
                (Outcome::Delivered, Reason::Ok),
                "{verdict:?}"
            );
            // The rules are back soon: a trace that came too late is asked again.
            let flush =
                format!("{} nft flush chain ip skep nat-prerouting", host.enter("010101010101"));
            let mut tries = 0;
            let verdict = loop {
                run(&flush);
                let verdict = ask().await;
                if !verdict.outcome.is_good() {
                    break verdict;
                }
                tries += 1;
                assert!(tries < 10, "{verdict:?}");
            };
            assert!(
                (verdict.outcome, verdict.reason, verdict.at.as_str())
                    == (Outcome::Refused, Reason::RuleMissing, "010101010101")
                    && verdict.text.contains("no rule leads 172.18.0.3:80/tcp on to 10.0.0.101:80"),
                "{verdict:?}"
            );
        },
    );
}

/// A connection that comes before the rules do is refused: the socket that holds the port takes none.
#[test]
fn a_port_is_listened_on_when_its_rules_are_there() {
    on_a_host("trace::a_port_is_listened_on_when_its_rules_are_there", |host: Host| async move {
        let broken = Broken::new(host).await;
        let (host, net) = (&broken.host, &broken.net);
        let ask = crate::harness::curl(&format!("http://{HOST}:8091"));
        let listens = || run("ss -ltnH sport = :8091").contains("LISTEN");
        assert!(listens());
        let first = host.spec(1, "web.1").id;
        net.remove_sandbox(&first).await.expect("remove");
        assert!(!listens());
        let second = task(host, net, 2).await;
        std::fs::write(&broken.stuck, "").expect("flag");
        net.enable_service(&second).await.expect_err("no rules");
        let error = host.try_client(&ask).expect_err("no rules");
        assert!(error.contains("exit status: 7"), "{error}");
        assert!(!listens());
        std::fs::remove_file(&broken.stuck).expect("flag");
        net.reconcile().await;
        assert!(host.client(&ask).starts_with("t2"));
        assert!(listens());
    });
}
