//! Hosts in different subnets with a router between them, and cables of different sizes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Bed, Host, Image, executable, until};

use crate::across::{only_living_answer, serves};
use crate::fixture::LIMIT;
use crate::several::Several;

/// MTU of each subnet's cables; the hosts are in the first three, the client is in the last.
const SUBNETS: [(u8, u16); 4] = [(0, 1500), (1, 9000), (2, 1400), (3, 1500)];
/// Bytes of what is fetched to see that packets of every size get through.
const BIG: &str = "3000000";

#[test]
fn subnets_with_a_router_between_them_make_one_swarm() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    for (number, mtu) in &SUBNETS[1..] {
        bed.subnet(*number, *mtu)?;
    }
    let mut three = Several::start_in(bed, &[0, 1, 2])?;
    let client = three.bed.host_in(3, "client")?;
    for host in &three.hosts {
        host.import(&three.bed, &Image::whoami(&executable("whoami")?))?;
    }
    three.join()?;
    three.docker(0, "network create -d overlay --attachable demo")?;
    three.docker(
        0,
        "service create -q --name web --network demo --mode global -p 8000:8000 -p 8000:8000/udp \
         whoami",
    )?;
    let page = format!("mkdir /www; head -c {BIG} /dev/zero >/www/big; httpd -f -p 80 -h /www");
    three.docker(
        0,
        &format!(
            "service create -q --name big --network demo --mode global -p 8080:80 \
             busybox sh -c '{page}'"
        ),
    )?;
    for host in 0..3 {
        three.docker(host, &format!("run -d --name box{host} --network demo busybox sleep 600"))?;
    }
    published(&three, &client)?;
    for host in 0..3 {
        named(&three, host)?;
    }
    mtus(&three)?;
    traced(&three)?;
    // Gossip tells of a death before the manager has noticed it.
    three.crash(2)?;
    only_living_answer(&three.hosts[..2], &client)?;
    Ok(())
}

/// The published ports answer on every host, from every task, and show the client.
fn published(three: &Several, client: &Host) -> Result<()> {
    serves(three, client, 8000, 3)?;
    for host in &three.hosts {
        let address = host.address();
        let udp = client.sh(&format!("echo hi | socat -t 1 - UDP:{address}:8000"))?.text()?;
        ensure!(udp.ends_with(&format!("and you are {}", client.address())), "{udp}");
        for _ in 0..3 {
            let seen =
                client.sh(&format!("curl -sSf -m 5 http://{address}:8000/client"))?.text()?;
            assert_eq!(seen, client.address().to_string(), "{address}");
            let line = format!("curl -sSf -m 10 http://{address}:8080/big | wc -c");
            assert_eq!(client.sh(&line)?.text()?, BIG, "{address}");
        }
    }
    Ok(())
}

/// A container's services answer by name and virtual address wherever their tasks are.
fn named(three: &Several, host: usize) -> Result<()> {
    let inside = |line: &str| three.docker(host, &format!("exec box{host} {line}"));
    until("three tasks behind the name", LIMIT, || {
        let found = inside("nslookup -type=a tasks.web | grep -c '^Address: *10.0.1'")?;
        if found == "3" { Ok(()) } else { Err(anyhow!("{found}")) }
    })?;
    let own = inside("hostname -i")?;
    let mut tasks = BTreeSet::new();
    for _ in 0..3 {
        tasks.insert(inside("wget -qO- http://web:8000/")?);
        let seen = inside("wget -qO- http://web:8000/client")?;
        ensure!(own.split_whitespace().any(|a| a == seen), "{seen} is none of {own}");
        let fetch = "sh -c 'wget -qO /tmp/big http://big/big && wc -c </tmp/big'";
        assert_eq!(inside(fetch)?, BIG, "host {host}");
    }
    ensure!(tasks.len() == 3, "host {host}: {tasks:?}");
    Ok(())
}

/// Overlays leave room for the tunnel's 50 bytes in what the host's own cable takes.
fn mtus(three: &Several) -> Result<()> {
    for (host, (_, underlay)) in SUBNETS[..3].iter().enumerate() {
        let expected = (underlay - 50).to_string();
        let inside = format!("exec box{host} cat /sys/class/net/eth0/mtu");
        assert_eq!(three.docker(host, &inside)?, expected, "host {host}");
        let bridges = "for ns in /run/docker/netns/1-*; do nsenter --net=$ns ip -j link show br0; done \
             | jq -s '.[][].mtu' | sort -u";
        assert_eq!(three.hosts[host].sh(bridges)?.text()?, expected, "host {host}");
    }
    Ok(())
}

/// A trace follows the tunnels over the router to the hosts with the other tasks.
fn traced(three: &Several) -> Result<()> {
    let line = format!("{} net trace --json web", executable("skep")?.display());
    let said = three.hosts[0].sh(&line)?.text()?;
    let report: serde_json::Value = serde_json::from_str(&said)?;
    assert_eq!(report["verdict"]["outcome"], "delivered", "{said}");
    let of = |path: &serde_json::Value| path["branches"].as_array().cloned().unwrap_or_default();
    // On the host a connection takes the way to a task there or into the mesh, which chooses among the others.
    let mesh = of(&report["path"]).into_iter().find(|b| b["candidate"]["mesh"] == true);
    let branches = of(&mesh.context("no way into the mesh")?["path"]);
    let mut remote = BTreeSet::new();
    for branch in &branches {
        let hops = branch["path"]["hops"].as_array().context("hops")?;
        let mut steps = hops.iter().filter_map(|hop| hop["steps"].as_array()).flatten();
        if let Some(tunnel) = steps.clone().find(|step| step.get("remote").is_some()) {
            let router = steps.any(|step| step["via"] == "10.77.0.254");
            ensure!(router, "the way to {tunnel} does not show the router: {branch}");
            remote.insert(format!("{} {}", tunnel["vni"], tunnel["remote"]));
        }
    }
    let expected = ["4096 \"10.77.1.2\"", "4096 \"10.77.2.3\""];
    ensure!(remote.iter().eq(expected.iter()), "{remote:?}: {said}");
    Ok(())
}
