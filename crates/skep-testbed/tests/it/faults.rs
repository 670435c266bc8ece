//! Strangers on the swarm's ports, and cables that are neither in nor out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Host, until};

use crate::across::{serves, swarm};
use crate::fixture::LIMIT;
use crate::several::Several;

/// A shell word that prints these bytes.
fn printed(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "printf '".to_owned();
    for byte in bytes {
        let _ = write!(text, "\\{byte:03o}");
    }
    text.push('\'');
    text
}

/// A VXLAN packet of the ingress network with a broadcast frame in it.
fn tunnelled() -> Vec<u8> {
    let mut packet = vec![0x08, 0, 0, 0, 0, 0x10, 0, 0];
    packet.extend([0xff; 6]);
    packet.extend([0x02, 0x42, 0x0a, 0, 0, 0xfe, 0x08, 0x00]);
    packet.resize(64, 0);
    packet
}

/// How many packets a host's part of the ingress network got from other hosts.
fn received(host: &Host) -> Result<u64> {
    let line = "for ns in /run/docker/netns/1-*; do nsenter --net=$ns ip -d -s -j link show type vxlan; done";
    let text = host.sh(&format!("({line}) | jq -s '[.[][] | select(.linkinfo.info_data.id == 4096)][0].stats64.rx.packets'"))?.text()?;
    text.parse().with_context(|| format!("a number: {text:?}"))
}

/// How many packets of strangers a host refused.
fn refused(host: &Host) -> Result<u64> {
    let text = host.sh("nft -j list chain ip skep tunnel")?.text()?;
    let (_, rest) = text.split_once("\"packets\": ").context("a counter")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

#[test]
fn strangers_cannot_send_into_overlays() -> Result<()> {
    let mut three = swarm()?;
    let stranger = three.bed.host("stranger")?;
    three.docker(0, "service create -q --name web --replicas 3 -p 8000:8000 whoami")?;
    serves(&three, &stranger, 8000, 3)?;
    let target = &three.hosts[0];
    let send = format!(
        "for n in 1 2 3 4 5; do {} | socat -u - UDP-SENDTO:{}:4789; done",
        printed(&tunnelled()),
        target.address()
    );
    // A node may: this shows that the packet is one that the kernel takes.
    let before = (received(target)?, refused(target)?);
    three.hosts[1].sh(&send)?.text()?;
    until("a node's packets", LIMIT, || match received(target)? - before.0 {
        5 => Ok(()),
        other => Err(anyhow!("{other} came in")),
    })?;
    ensure!(refused(target)? == before.1, "a node's packet was refused");
    let before = (received(target)?, refused(target)?);
    stranger.sh(&send)?.text()?;
    until("a stranger's packets to be counted", LIMIT, || match refused(target)? - before.1 {
        5 => Ok(()),
        other => Err(anyhow!("{other} were refused")),
    })?;
    ensure!(received(target)? == before.0, "a stranger's packet came in");
    serves(&three, &stranger, 8000, 3)?;
    // Out of the swarm the port is nobody's.
    three.docker(2, "swarm leave")?;
    three.prints(2, "nft list table ip skep | grep -c 'chain tunnel' || true", "0")
}

#[test]
fn garbage_on_the_gossip_port_is_counted_and_nothing_else() -> Result<()> {
    let mut three = swarm()?;
    let stranger = three.bed.host("stranger")?;
    three.docker(0, "service create -q --name web --replicas 3 -p 8000:8000 whoami")?;
    serves(&three, &stranger, 8000, 3)?;
    let target = three.hosts[0].address();
    let memory = three.resident(0)?;
    let dropped =
        |cause: &str| three.metric(0, &format!("skep_gossip_dropped_total{{cause=\"{cause}\"}}"));
    let raised = |what: &str, cause: &str, by: u64, script: &str| -> Result<()> {
        let before = dropped(cause)?;
        stranger.sh(script)?.text()?;
        until(what, LIMIT, || match dropped(cause)? - before {
            found if found >= by => Ok(()),
            found => Err(anyhow!("{found} of {by} counted as {cause}")),
        })
    };
    let udp = format!("socat -u - UDP-SENDTO:{target}:7946");
    let tcp = format!("timeout 20 socat - TCP:{target}:7946 >/dev/null 2>&1 || true");

    // A ping in plain text, and noise of all sizes, the last ones in fragments.
    let ping = [b"\x00\x82\xa5SeqNo\x01\xa4Node\xa3abc".as_slice()].concat();
    let noise = format!(
        "for size in 1 2 5 20 45 100 1000 1400 9000 60000; do for n in 1 2 3 4 5; do \
         head -c $size /dev/urandom | socat -b 65000 -u - UDP-SENDTO:{target}:7946; done; done"
    );
    let before = three.metric(0, "skep_gossip_dropped_total")?;
    stranger.sh(&format!("{} | {udp}; {noise}", printed(&ping)))?.text()?;
    until("noise to be counted", LIMIT, || {
        match three.metric(0, "skep_gossip_dropped_total")? - before {
            found if found >= 51 => Ok(()),
            found => Err(anyhow!("{found} of 51")),
        }
    })?;
    // Streams: plain, longer than any may be, sealed with a key that is none, and cut off.
    let plain = format!("{} | {tcp}", printed(&ping));
    raised("a plain stream", "not_encrypted", 1, &plain)?;
    let huge = format!("{} | {tcp}", printed(&[10, 0xff, 0xff, 0xff, 0xff]));
    raised("a huge stream", "too_large", 1, &huge)?;
    // A length of 1 MiB, and the version of the encryption.
    let sealed = printed(&[10, 0, 0x10, 0, 0, 1]);
    let foreign = format!("({sealed}; head -c {} /dev/urandom) | {tcp}", 0x10_0000 - 1);
    raised("a stream with another key", "no_key", 1, &foreign)?;
    raised("half a stream", "truncated", 1, &format!("{sealed} | {tcp}"))?;

    // Many that never end: together they would hold 1.2 GB. Meanwhile the swarm goes on.
    let endless = printed(&[10, 0x01, 0x3f, 0xff, 0x00]);
    let flood = format!(
        "for n in $(seq 80); do ({endless}; head -c 20000000 /dev/zero; sleep 20) | {tcp} & done; wait"
    );
    let before = dropped("full")?;
    let mut load = stranger.command("sh", &["-c", &flood]).spawn()?;
    until("streams beyond the limit to be refused", LIMIT, || match dropped("full")? - before {
        0 => Err(anyhow!("none was")),
        _ => Ok(()),
    })?;
    three.docker(0, "service scale -d web=6")?;
    serves(&three, &stranger, 8000, 6)?;
    let now = three.resident(0)?;
    ensure!(now < memory + 150_000, "{memory} KiB before, {now} KiB after");
    load.kill()?;
    load.wait()?;
    for host in 0..3 {
        three.node_is(host, "Ready")?;
    }
    ensure!(!three.hosts[0].sh("docker info")?.text()?.is_empty());
    Ok(())
}

#[test]
fn garbage_on_the_managers_port_is_counted_and_nothing_else() -> Result<()> {
    let mut two = Several::swarm(2)?;
    let stranger = two.bed.host("stranger")?;
    let target = two.hosts[0].address();
    let memory = two.resident(0)?;
    let refused = || two.metric(0, "skep_swarm_handshakes_refused_total");
    let before = refused()?;
    let tcp = format!("timeout 20 socat -t 0.1 - TCP:{target}:2377 >/dev/null 2>&1 || true");
    // Plain HTTP, a record and a greeting longer than any may be, and noise.
    let record = printed(&[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff]);
    let script = format!(
        "printf 'GET / HTTP/1.1\\r\\n\\r\\n' | {tcp}; printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' | {tcp}; \
         ({record}; head -c 100000 /dev/zero) | {tcp}; \
         for n in 1 2 3 4 5; do head -c 2000000 /dev/urandom | {tcp}; done"
    );
    stranger.sh(&script)?.text()?;
    until("garbage to be counted", LIMIT, || match refused()? - before {
        8 => Ok(()),
        other => Err(anyhow!("{other} of 8")),
    })?;
    // Many that say nothing, and more of them than there may be at once.
    let silent = format!(
        "for n in $(seq 300); do sleep 30 | socat - TCP:{target}:2377 >/dev/null 2>&1 & done; wait"
    );
    let mut silent = stranger.command("sh", &["-c", &silent]).spawn()?;
    // Who is in the swarm goes on, also while they are given up.
    until("the silent ones to be given up", LIMIT, || {
        two.node_is(1, "Ready")?;
        match refused()? - before {
            found if found >= 100 => Ok(()),
            found => Err(anyhow!("{found} were refused")),
        }
    })?;
    silent.kill()?;
    silent.wait()?;
    two.docker(0, "service create -d --name web --mode global busybox sleep 600")?;
    two.converged("web", "2/2")?;
    assert_eq!(two.docker(0, "node ls -q | wc -l")?, "2");
    let now = two.resident(0)?;
    ensure!(now < memory + 100_000, "{memory} KiB before, {now} KiB after");
    Ok(())
}

/// The addresses of a service's tasks on `demo` as each host's own containers have them.
fn addresses(three: &Several) -> Result<BTreeSet<String>> {
    let line = "docker ps -q --filter label=com.docker.swarm.service.name=web | \
         xargs -r docker inspect -f '{{.NetworkSettings.Networks.demo.IPAddress}}'";
    let mut all = BTreeSet::new();
    for host in &three.hosts {
        all.extend(host.sh(line)?.text()?.lines().map(str::to_owned));
    }
    Ok(all)
}

/// Waits until names, on every host, are those of the tasks that run.
fn names_are_true(three: &Several, count: usize) -> Result<()> {
    for host in 0..three.hosts.len() {
        until("names to be true", LIMIT, || {
            let line = format!("exec box{host} nslookup -type=a tasks.web");
            let said: BTreeSet<String> = three
                .docker(host, &line)?
                .lines()
                .filter_map(|line| line.strip_prefix("Address: ").map(str::to_owned))
                .filter(|address| address.starts_with("10."))
                .collect();
            let real = addresses(three)?;
            if said == real && real.len() == count {
                Ok(())
            } else {
                Err(anyhow!("host {host} says {said:?}, there are {real:?}"))
            }
        })?;
    }
    Ok(())
}

/// A swarm with a service of three tasks on a network that every host has a box on.
fn busy() -> Result<(Several, Host)> {
    let mut three = swarm()?;
    let client = three.bed.host("client")?;
    three.docker(0, "network create -d overlay --attachable demo")?;
    three.docker(
        0,
        "service create -q --name web --network demo --replicas 3 -p 8000:8000 whoami",
    )?;
    for host in 0..3 {
        three
            .docker(host, &format!("run -d --name box{host} --network demo busybox sleep 3600"))?;
    }
    serves(&three, &client, 8000, 3)?;
    names_are_true(&three, 3)?;
    Ok((three, client))
}

/// What must be so a while after the network is whole again.
fn whole(three: &Several, client: &Host) -> Result<()> {
    for host in 0..3 {
        three.node_is(host, "Ready")?;
    }
    three.converged("web", "3/3")?;
    names_are_true(three, 3)?;
    serves(three, client, 8000, 3)
}

#[test]
fn a_cable_that_flaps_leaves_nothing_behind() -> Result<()> {
    let (three, client) = busy()?;
    let start = Instant::now();
    let mut up = true;
    while start.elapsed() < Duration::from_secs(20) {
        up = !up;
        three.plug(2, up)?;
        std::thread::sleep(Duration::from_secs(1));
    }
    three.plug(2, true)?;
    whole(&three, &client)
}

#[test]
fn partitions_in_one_direction_or_between_two_heal() -> Result<()> {
    let (three, client) = busy()?;
    // It hears and is not heard; then it is heard and hears nothing.
    for (from, to) in [(Some(2), None), (None, Some(2))] {
        three.lose(from, to, true)?;
        three.node_is(2, "Down")?;
        for host in &three.hosts[..2] {
            until("the others to serve alone", LIMIT, || {
                for _ in 0..6 {
                    let url = format!("http://{}:8000/", host.address());
                    client.sh(&format!("curl -sSf -m 1 {url}"))?.text()?;
                }
                Ok::<_, anyhow::Error>(())
            })?;
        }
        three.lose(from, to, false)?;
        whole(&three, &client)?;
    }
    // Two workers lose each other, in both directions and in one. The manager sees both: nothing moves.
    let tasks = "service ps -q web -f desired-state=running | sort";
    let before = three.docker(0, tasks)?;
    for ways in [&[(1, 2), (2, 1)][..], &[(1, 2)]] {
        for (from, to) in ways {
            three.lose(Some(*from), Some(*to), true)?;
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(8) {
            let nodes = three.docker(0, "node ls --format '{{.Status}}' | sort -u")?;
            assert_eq!(nodes, "Ready");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(three.docker(0, tasks)?, before);
        // The host that reaches all tasks serves all the time, the others without each other's tasks.
        for host in 0..3 {
            serves_from(&three, &client, host)?;
        }
        for (from, to) in ways {
            three.lose(Some(*from), Some(*to), false)?;
        }
        whole(&three, &client)?;
    }
    assert_eq!(three.docker(0, tasks)?, before);
    Ok(())
}

/// Six requests to one host's port, all answered at once.
fn serves_from(three: &Several, client: &Host, host: usize) -> Result<()> {
    let url = format!("http://{}:8000/", three.hosts[host].address());
    for _ in 0..6 {
        client.sh(&format!("curl -sSf -m 2 {url}"))?.text()?;
    }
    Ok(())
}

#[test]
fn a_task_says_that_addresses_are_used_up() -> Result<()> {
    let three = swarm()?;
    // Eight addresses: without the first, the last, the gateway, the service's and the one of this
    // node's balancer, three are left for tasks.
    three.docker(0, "network create -d overlay --subnet 10.99.0.0/29 small")?;
    three.docker(
        0,
        "service create -d -q --name web --network small --constraint node.hostname==node0 whoami",
    )?;
    three.converged("web", "1/1")?;
    three.docker(0, "service scale -d web=6")?;
    three.converged("web", "3/6")?;
    let waiting = "docker service ps --no-trunc -f desired-state=running --format '{{.Error}}' web | \
         grep -c 'no available IPv4 addresses' || true";
    three.prints(0, waiting, "3")?;
    // What is given back is used, and nothing is waited for any more.
    three.docker(0, "service scale -d web=3")?;
    three.converged("web", "3/3")?;
    three.prints(0, waiting, "0")
}
