//! Published ports, virtual addresses and names of services.

use anyhow::{Result, ensure};

use crate::fixture::One;

/// Names of the containers that answered, in order.
fn answers(one: &One, url: &str, count: usize) -> Result<Vec<String>> {
    (0..count).map(|_| one.host.sh(&format!("curl -sf -m 5 {url}"))?.text()).collect()
}

#[test]
fn a_published_port_rotates_strictly_on_every_address() -> Result<()> {
    let one = One::swarm()?;
    one.docker("service create --name web --replicas 3 -p 8000:8000 whoami")?;
    for address in ["127.0.0.1", "10.77.0.1", "172.18.0.1", "172.18.0.2"] {
        let seen = answers(&one, &format!("http://{address}:8000/"), 6)?;
        assert_eq!(seen[..3], seen[3..], "{address}: {seen:?}");
        let mut different = seen[..3].to_vec();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 3, "{address}: {seen:?}");
    }
    Ok(())
}

#[test]
fn the_task_sees_the_client_from_outside() -> Result<()> {
    let mut one = One::swarm()?;
    let client = one.outsider()?;
    one.docker("service create --name web --replicas 2 -p 8000:8000 -p 8000:8000/udp whoami")?;
    for _ in 0..4 {
        let seen = client
            .sh(&format!("curl -sf -m 5 http://{}:8000/client", one.host.address()))?
            .text()?;
        assert_eq!(seen, client.address().to_string());
    }
    let udp =
        client.sh(&format!("echo hi | socat -t 2 - UDP:{}:8000", one.host.address()))?.text()?;
    ensure!(udp.ends_with(&format!("and you are {}", client.address())), "{udp}");
    Ok(())
}

#[test]
fn host_mode_and_automatic_ports() -> Result<()> {
    let one = One::swarm()?;
    one.docker("service create --name h --publish mode=host,published=8001,target=8000 whoami")?;
    one.prints("curl -sf http://127.0.0.1:8001/ | cut -c1-3", "I'm")?;
    one.docker("service create --name a --publish 8000 whoami")?;
    let port: u16 = one
        .docker("service inspect --format '{{(index .Endpoint.Ports 0).PublishedPort}}' a")?
        .parse()?;
    ensure!((30000..=32767).contains(&port), "{port}");
    one.prints(&format!("curl -sf http://127.0.0.1:{port}/ | cut -c1-3"), "I'm")?;
    let taken = one.refused(&format!("service create -p {port}:1 whoami"))?;
    ensure!(taken.contains(&port.to_string()) && taken.contains("already in use"), "{taken}");
    Ok(())
}

#[test]
fn names_and_virtual_addresses() -> Result<()> {
    let one = One::swarm()?;
    one.docker("network create -d overlay demo")?;
    one.docker("service create --name whoami --network demo --replicas 3 whoami")?;
    one.docker(
        "service create --name rr --endpoint-mode dnsrr --network demo --replicas 2 whoami",
    )?;
    one.docker("service create --name test --network demo busybox sleep 3600")?;
    let test = one.docker("ps -q --filter label=com.docker.swarm.service.name=test")?;
    let inside = |line: &str| one.docker(&format!("exec {test} {line}"));

    let vip =
        one.docker("service inspect --format '{{(index .Endpoint.VirtualIPs 0).Addr}}' whoami")?;
    let vip = vip.trim_end_matches("/24").to_owned();
    ensure!(inside("ping -c 2 -W 2 whoami")?.contains(&format!("({vip})")));
    ensure!(inside("nslookup -type=a whoami")?.contains(&vip));
    let tasks = inside("nslookup -type=a tasks.whoami")?;
    assert_eq!(tasks.matches("Address: 10.0.1.").count(), 3, "{tasks}");
    let tasks = inside("nslookup -type=a rr")?;
    assert_eq!(tasks.matches("Address: 10.0.1.").count(), 2, "{tasks}");

    let seen: Vec<String> =
        (0..6).map(|_| inside("wget -qO- http://whoami:8000/")).collect::<Result<_>>()?;
    assert_eq!(seen[..3], seen[3..], "{seen:?}");
    let own = inside("hostname -i")?;
    let client = inside("wget -qO- http://whoami:8000/client")?;
    ensure!(own.contains(&client), "the task saw {client}, not {own}");

    one.docker("service scale whoami=5")?;
    let after =
        one.docker("service inspect --format '{{(index .Endpoint.VirtualIPs 0).Addr}}' whoami")?;
    assert_eq!(after, format!("{vip}/24"), "the virtual address changed");
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let one = One::swarm()?;
    // Names and addresses; whether a bridge counts as up depends on its ports' moments.
    let picture = "ip -br link | awk '{print $1}'; nft list ruleset | grep -v 'counter packets'; ls /run/docker/netns; \
                   for n in /run/docker/netns/*; do nsenter --net=$n ip -br addr | awk '{$2=\"\"; print}'; nsenter --net=$n nft list ruleset; done";
    let normal = |text: String| {
        // Names of cables are chance.
        text.lines().filter(|line| !line.contains("veth")).collect::<Vec<_>>().join("\n")
    };
    let before = normal(one.host.sh(picture)?.text()?);
    one.docker("network create -d overlay demo")?;
    one.docker("service create --name web --replicas 3 --network demo -p 8000:8000 whoami")?;
    one.docker("service scale web=1")?;
    one.prints("curl -s http://127.0.0.1:8000/ http://127.0.0.1:8000/ http://127.0.0.1:8000/ | sort -u | wc -l", "1")?;
    one.docker("service rm web")?;
    one.prints("docker ps -aq | wc -l", "0")?;
    one.prints(
        "docker network rm demo 2>/dev/null || docker network ls -qf name=demo | wc -l",
        "demo",
    )
    .or_else(|_| one.prints("docker network ls -qf name=demo | wc -l", "0"))?;
    let mut after = String::new();
    let cleaned = skep_testbed::until("the kernel to be as before", crate::fixture::LIMIT, || {
        after = normal(one.host.sh(picture)?.text()?);
        if after == before { Ok(()) } else { Err(anyhow::anyhow!("it differs")) }
    });
    ensure!(cleaned.is_ok(), "before:\n{before}\n\nafter:\n{after}");
    Ok(())
}

#[test]
fn open_connections_finish_when_a_task_is_stopped() -> Result<()> {
    let one = One::swarm()?;
    one.docker("service create --name web --replicas 2 -p 8000:8000 whoami")?;
    // Two slow requests, one on each task; then one task must go.
    let slow = one.host.sh(
        "curl -sf -m 20 'http://127.0.0.1:8000/slow?3000' > /run/a & first=$!; \
         curl -sf -m 20 'http://127.0.0.1:8000/slow?3000' > /run/b & second=$!; \
         docker service scale -d web=1 >/dev/null; wait $first && wait $second && cat /run/a /run/b | grep -c slowly",
    )?;
    assert_eq!(slow.stdout.trim(), "2", "{slow:?}");
    Ok(())
}
