//! `skep net trace`: the way of a packet as the kernel has it, and where it ends.

use anyhow::{Context as _, Result, ensure};
use skep_testbed::{Finished, Image, executable, until};

use crate::fixture::{LIMIT, One};
use crate::several::Several;

fn one() -> Result<One> {
    let one = One::swarm()?;
    one.docker("network create -d overlay --attachable demo")?;
    one.docker("service create -q --name web --replicas 2 --network demo -p 8000:8000 whoami")?;
    one.docker("run -d --name box --network demo busybox sleep 600")?;
    Ok(one)
}

fn trace(one: &One, words: &str) -> Result<Finished> {
    one.host.sh(&format!("{} net trace {words}", executable("skep")?.display()))
}

/// All that was said on one line: where lines break depends on names.
fn flat(found: &Finished) -> String {
    let words = found.stdout.split_whitespace().chain(found.stderr.split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// Asserts that a trace ends with this exit code and says all of this.
fn says(one: &One, words: &str, code: i32, parts: &[&str]) -> Result<()> {
    let found = trace(one, words)?;
    ensure!(found.code == Some(code), "{words}: {found:?}");
    let text = flat(&found);
    for part in parts {
        ensure!(text.contains(part), "{words}: no {part:?} in\n{text}");
    }
    Ok(())
}

#[test]
fn a_healthy_path_is_walked_to_the_task() -> Result<()> {
    let one = one()?;
    let mesh = ["one of 2, in turn", "listens on", "✓ arrives"];
    for words in ["web", "8000", "10.77.0.1:8000", "web --from host", "127.0.0.1:8000 --from host"]
    {
        says(&one, words, 0, &mesh)?;
    }
    let behind = ["ingress_sbox", "one of 2, in turn", "10.0.0.", "listens on", "✓ arrives"];
    says(&one, "172.18.0.2:8000 --from host", 0, &behind)?;
    let inside = ["web is 10.0.1.", "vip-10-0-1-", "one of 2, in turn", "✓ arrives"];
    says(&one, "web:8000 --from box", 0, &inside)?;
    // For programs.
    let json = trace(&one, "--json web")?.text()?;
    let report: serde_json::Value = serde_json::from_str(&json).context("parse the report")?;
    assert_eq!((&report["version"], &report["service"]), (&1.into(), &"web".into()));
    let hops = report["path"]["hops"].as_array().context("hops")?;
    // On the host the path branches, once for each task.
    assert_eq!((hops.len(), &hops[0]["role"]), (1, &"host".into()));
    assert_eq!(report["path"]["branches"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["verdict"]["outcome"], "delivered");
    Ok(())
}

#[test]
fn a_broken_path_says_where_and_why() -> Result<()> {
    let one = one()?;
    says(&one, "nosuch", 1, &["✗ goes nowhere", "nosuch is neither a service"])?;
    says(&one, "10.77.0.1:8001", 1, &["✗ refused at host", "nobody publishes 8001/tcp"])?;
    says(&one, "web:81 --from box", 1, &["✗ refused", "81"])?;
    says(&one, "web --from nosuch", 3, &["no container of this host is called nosuch"])?;
    // A task whose server does not listen where the port leads.
    one.docker("service create -d -q --name deaf -p 8002:81 whoami")?;
    one.converged("deaf", "1/1")?;
    says(&one, "deaf", 1, &["✗ refused", "81"])?;
    // The daemon puts rules back within a second or so; a trace that comes too late is asked again.
    until("a missing rule to be seen", LIMIT, || {
        one.host.sh("nsenter --net=/run/docker/netns/ingress_sbox nft flush chain ip skep nat-prerouting")?.text()?;
        says(
            &one,
            "172.18.0.2:8000 --from host",
            1,
            &["✗ refused at ingress_sbox", "no rule leads 172.18.0.2:8000/tcp on to 10.0.0."],
        )
    })?;
    // A task that takes its time to stop.
    let stubborn = "sh -c \"trap : TERM; httpd -f -p 8000 & while :; do sleep 1; done\"";
    one.docker(&format!(
        "service create -d -q --name slow --stop-grace-period 20s -p 8003:8000 busybox {stubborn}"
    ))?;
    one.converged("slow", "1/1")?;
    one.docker("service scale -d slow=0")?;
    until("the only task to leave", LIMIT, || {
        let said = "all 1 tasks of service slow are leaving rotation";
        says(&one, "slow", 1, &["✗ refused at ingress_sbox", said])
    })?;
    one.docker("service scale -d web=0")?;
    until("no task to be left", LIMIT, || says(&one, "8000", 1, &["✗", "web"]))?;
    // Nobody is asked where no daemon is.
    let socket = "-H unix:///run/nobody.sock web";
    says(&one, socket, 3, &["/run/nobody.sock"])
}

#[test]
fn a_task_on_another_host_is_followed_to_the_cable() -> Result<()> {
    let two = Several::swarm(2)?;
    for host in &two.hosts {
        host.import(&two.bed, &Image::whoami(&executable("whoami")?))?;
    }
    two.docker(
        0,
        "service create -q --name web --constraint node.hostname==node1 -p 8000:8000 whoami",
    )?;
    let skep = executable("skep")?;
    let near = two.hosts[0].sh(&format!("{} net trace web", skep.display()))?.text()?;
    for part in ["VXLAN 4096 from 10.77.0.1 to 10.77.0.2", "host node1", "handed on"] {
        ensure!(near.contains(part), "no {part:?} in\n{near}");
    }
    let far = two.hosts[1].sh(&format!("{} net trace 8000", skep.display()))?.text()?;
    ensure!(far.contains("✓ arrives") && far.contains("listens on"), "{far}");
    // What the kernel tells nobody of stays until the next verification, and is seen until then.
    for (damage, said) in [
        ("ip neigh flush dev vxlan0 nud permanent", "vxlan0 has no neighbour entry for 10.0.0."),
        ("ip link set vxlan0 down", "vxlan0 is down"),
    ] {
        let overlay =
            "/run/docker/netns/1-$(docker network inspect -f '{{slice .Id 0 10}}' ingress)";
        two.hosts[0].sh(&format!("nsenter --net={overlay} {damage}"))?.text()?;
        let found = two.hosts[0].sh(&format!("{} net trace web", skep.display()))?;
        ensure!(found.code == Some(1) && flat(&found).contains(said), "no {said:?}: {found:?}");
    }
    Ok(())
}

#[test]
fn turns_of_other_hosts_are_shown_behind_those_of_this_one() -> Result<()> {
    let two = Several::swarm(2)?;
    for host in &two.hosts {
        host.import(&two.bed, &Image::whoami(&executable("whoami")?))?;
    }
    two.docker(0, "service create -q --name web --mode global -p 8000:8000 whoami")?;
    let walked = |parts: &[&str]| {
        let found = two.hosts[0].sh(&format!("{} net trace web", executable("skep")?.display()))?;
        let text = flat(&found);
        for part in parts {
            ensure!(text.contains(part), "no {part:?} in\n{}", found.stdout);
        }
        Ok(())
    };
    // Both kinds of way are walked to their ends.
    walked(&[
        "one of 2, in turn",
        "here web.",
        "here routing mesh",
        "listens on",
        "VXLAN 4096",
        "handed on: handed to node1",
        "✓ arrives: here: 1 of 2; on other hosts: 1",
    ])?;
    // Where one is broken that one is, and of the other its end.
    two.hosts[0].sh(
        "for n in /run/docker/netns/????????????; do case $n in *ingress_sbox|*/1-*) ;; *) nsenter --net=$n \
         nft 'add table inet evil; add chain inet evil in { type filter hook input priority 0; }; \
         add rule inet evil in tcp dport 8000 drop'; esac; done",
    )?
    .text()?;
    walked(&[
        "here routing mesh handed to node1",
        "this one: ✗ dropped",
        "table inet evil, chain in",
        "✗ arrives only sometimes: 1 of 2 addresses fail",
    ])
}
