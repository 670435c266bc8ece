//! Containers outside any service on attachable overlays.

use std::time::Duration;

use anyhow::{Result, ensure};

use skep_testbed::Host;

use crate::fixture::One;

/// A swarm of one with an attachable overlay, and a service on it if asked for.
fn shared(service: bool) -> Result<One> {
    let one = One::swarm()?;
    one.docker("network create -d overlay --attachable --subnet 10.9.0.0/24 shared")?;
    if service {
        one.docker("service create --name web --replicas 2 --network shared whoami")?;
        one.converged("web", "2/2")?;
    }
    Ok(one)
}

/// The network can be removed at once: nothing on it was forgotten.
fn nothing_left(one: &One) -> Result<()> {
    one.docker("network rm shared")?;
    one.prints("docker network ls -qf name=shared | wc -l", "0")
}

/// The same host after its daemon was killed, `meanwhile` happened, and a daemon was started.
fn restarted(one: One, meanwhile: impl FnOnce(&Host) -> Result<()>) -> Result<One> {
    let One { daemon, host, bed } = one;
    daemon.kill()?;
    meanwhile(&host)?;
    let daemon = host.daemon(&[])?;
    Ok(One { daemon, host, bed })
}

#[test]
fn a_plain_container_and_services_find_each_other() -> Result<()> {
    let mut one = shared(true)?;
    let outsider = one.outsider()?;
    one.docker("run -d --name box --network shared --network-alias crate busybox sleep 600")?;

    let links = one.docker("exec box ip -4 -o addr show")?;
    ensure!(links.contains("eth0") && links.contains("inet 10.9.0."), "{links}");
    ensure!(links.contains("eth1") && links.contains("inet 172.18."), "{links}");
    assert_eq!(one.docker("exec box cat /sys/class/net/eth0/mtu")?, "1450");
    ensure!(one.docker("exec box wget -qO- http://web:8000")?.contains("I'm"));
    let tasks = one.docker("exec box nslookup tasks.web")?;
    ensure!(tasks.matches("Address: 10.9.0.").count() >= 2, "{tasks}");
    let out = format!("exec box ping -c 1 -W 2 {}", outsider.address());
    one.docker(&out)?;

    let task = one.docker("ps -q --filter label=com.docker.swarm.service.name=web | head -1")?;
    for name in ["box", "crate"] {
        let found =
            one.docker(&format!("run --rm --network container:{task} busybox nslookup {name}"))?;
        ensure!(found.contains("10.9.0."), "{found}");
    }

    let shown = one.docker("network inspect shared")?;
    ensure!(shown.contains("\"box\""), "{shown}");
    let refused = one.refused("network rm shared")?;
    ensure!(
        refused.contains("network ") && refused.contains(" is in use by service "),
        "{refused}"
    );
    assert_eq!(one.docker("service ps -q web")?.lines().count(), 2);
    assert_eq!(one.docker("node ps -q")?.lines().count(), 2);

    one.docker("service rm web")?;
    one.prints("docker ps -q | wc -l", "1")?;
    let refused = one.refused("network rm shared")?;
    ensure!(refused.contains("is in use by task"), "{refused}");
    one.docker("rm -f box")?;
    nothing_left(&one)
}

#[test]
fn addresses_are_chosen_and_given_back() -> Result<()> {
    let one = shared(false)?;
    let address = "ip -4 -o addr show eth0";
    for _ in 0..2 {
        let seen =
            one.docker(&format!("run --rm --network shared --ip 10.9.0.77 busybox {address}"))?;
        ensure!(seen.contains("10.9.0.77/24"), "{seen}");
    }
    one.docker("network create local")?;
    one.docker("run -d --name box --network local --network shared busybox sleep 600")?;
    assert_eq!(
        one.docker("exec box sh -c 'ls /sys/class/net | tr \"\\n\" \" \"'")?,
        "eth0 eth1 eth2 lo"
    );
    one.docker("run --rm --network shared busybox ping -c 1 -W 2 box")?;
    one.docker("run --rm --network local busybox ping -c 1 -W 2 box")?;
    one.docker("rm -f box")?;
    nothing_left(&one)
}

#[test]
fn a_running_container_is_connected_and_disconnected() -> Result<()> {
    let one = shared(true)?;
    one.docker("run -d --name box busybox sleep 600")?;
    one.docker("network connect --alias second shared box")?;
    ensure!(one.docker("exec box wget -qO- http://web:8000")?.contains("I'm"));
    one.docker("run --rm --network shared busybox ping -c 1 -W 2 second")?;
    let again = one.refused("network connect shared box")?;
    ensure!(again.contains("already exists in network shared"), "{again}");
    one.docker("network disconnect shared box")?;
    ensure!(!one.docker("exec box ls /sys/class/net")?.contains("eth1"));
    one.docker("service rm web")?;
    one.prints("docker ps -q | wc -l", "1")?;
    nothing_left(&one)
}

#[test]
fn stop_and_start_take_a_place_anew() -> Result<()> {
    let one = shared(false)?;
    one.docker("run -d --name box --network shared busybox sleep 600")?;
    one.docker("run -d --name peer --network shared busybox sleep 600")?;
    for _ in 0..2 {
        one.docker("stop -t 0 box")?;
        ensure!(one.refused("exec peer ping -c 1 -W 1 box").is_ok());
        one.docker("start box")?;
        one.docker("exec peer ping -c 1 -W 2 box")?;
        one.docker("restart -t 0 box")?;
        one.docker("exec peer ping -c 1 -W 2 box")?;
    }
    one.docker("stop -t 0 box peer")?;
    // A stopped container holds no address, and no network.
    nothing_left(&one)?;
    let gone = one.refused("start box")?;
    ensure!(gone.contains("network shared not found"), "{gone}");
    Ok(())
}

#[test]
fn what_cannot_be_attached_to_is_refused() -> Result<()> {
    let one = shared(false)?;
    one.docker("network create -d overlay closed")?;
    let closed = one.refused("run --rm --network closed busybox true")?;
    ensure!(
        closed.contains(
            "Could not attach to network closed: rpc error: code = PermissionDenied desc = network \
             closed not manually attachable"
        ),
        "{closed}"
    );
    let missing = one.refused("run --rm --network nowhere busybox true")?;
    ensure!(missing.contains("network nowhere not found"), "{missing}");
    one.docker("run -d --name box busybox sleep 600")?;
    let missing = one.refused("network connect nowhere box")?;
    ensure!(missing.contains("network nowhere not found"), "{missing}");
    one.docker("network rm closed")?;
    one.docker("run --rm --network shared busybox true")?;
    let failed = one.refused("run --rm --network shared busybox /no/such/command")?;
    ensure!(failed.contains("no such file or directory"), "{failed}");
    nothing_left(&one)
}

#[test]
fn a_killed_daemon_keeps_places_and_gives_back_what_is_not_used() -> Result<()> {
    let one = shared(true)?;
    one.docker("run -d --name box --network shared busybox sleep 600")?;
    one.docker("run -d --name always --restart always --network shared busybox sleep 600")?;
    one.docker("run -d --name ends --network shared busybox sleep 600")?;
    let address = "inspect --format '{{.NetworkSettings.Networks.shared.IPAddress}}' box";
    let before = one.docker(address)?;
    let pids = one.docker("inspect --format '{{.State.Pid}}' always ends")?.replace('\n', " ");
    let one = restarted(one, |host| host.sh(&format!("kill -9 {pids}"))?.text().map(drop))?;
    assert_eq!(one.docker(address)?, before);
    one.prints("docker inspect --format '{{.State.Status}}' always ends", "running\nexited")?;
    // It was shown as running before it was found to have ended, too.
    one.prints("docker exec box ping -c 1 -W 2 always >/dev/null && echo answers", "answers")?;
    one.prints("docker exec box wget -qO- http://web:8000 | grep -c \"I'm\"", "1")?;
    let taken = one.refused("network rm shared")?;
    ensure!(taken.contains("is in use by"), "{taken}");
    one.docker("stop -t 0 always")?;
    let one = restarted(one, |_| Ok(()))?;
    one.docker("exec box ping -c 1 -W 2 box")?;
    one.docker("rm -f box always ends")?;
    one.docker("service rm web")?;
    one.prints(
        "docker network rm shared >/dev/null 2>&1; docker network ls -qf name=shared | wc -l",
        "0",
    )
}

#[test]
fn leaving_the_swarm_ends_attachments_and_not_containers() -> Result<()> {
    let one = shared(false)?;
    one.docker("run -d --name box --network shared busybox sleep 600")?;
    one.docker("network connect bridge box")?;
    one.docker("swarm leave --force")?;
    assert_eq!(one.docker("inspect --format '{{.State.Status}}' box")?, "running");
    assert_eq!(
        one.docker("exec box sh -c 'ls /sys/class/net | tr \"\\n\" \" \"'")?.matches("eth").count(),
        1
    );
    one.prints("docker network ls -qf driver=overlay | wc -l", "0")?;
    one.docker("rm -f box")?;
    Ok(())
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_no_attachment_behind() -> Result<()> {
    let mut one = shared(false)?;
    for round in 0..6_u64 {
        let name = format!("box{round}");
        let line = ["run", "-d", "--name", &name, "--network", "shared", "busybox", "sleep", "600"];
        let mut client = one.host.command("docker", &line).spawn()?;
        // No condition to wait for: the moment of the kill is what varies.
        std::thread::sleep(Duration::from_millis(40 + 60 * round));
        one = restarted(one, |_| Ok(()))?;
        client.wait()?;
        one.host.sh(&format!("docker rm -f {name}"))?;
    }
    one.docker("run --rm --network shared busybox true")?;
    one.prints(
        "docker network rm shared >/dev/null 2>&1; docker network ls -qf name=shared | wc -l",
        "0",
    )
}

#[test]
fn an_address_in_use_is_refused_with_the_reason() -> Result<()> {
    let one = shared(false)?;
    one.docker("run -d --name box --network shared --ip 10.9.0.77 busybox sleep 600")?;
    // A place may become free, so this takes as long as a container waits for one.
    let taken = one.refused("run --rm --network shared --ip 10.9.0.77 busybox true")?;
    ensure!(
        taken.contains("attaching to network failed") && taken.contains("10.9.0.77"),
        "{taken}"
    );
    one.docker("rm -f box")?;
    nothing_left(&one)
}
