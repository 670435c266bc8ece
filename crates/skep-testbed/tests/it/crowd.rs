//! What a container costs the host beside others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_testbed::until;

use crate::fixture::One;

/// What the daemon holds: descriptors, and lines of its table of mounts.
fn held(one: &One) -> Result<(usize, usize)> {
    let pid = one.daemon.pid();
    let descriptors =
        std::fs::read_dir(format!("/proc/{pid}/fd")).context("the daemon's descriptors")?.count();
    let mounts =
        std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).context("the daemon's mounts")?;
    Ok((descriptors, mounts.lines().count()))
}

fn scaled(one: &One, count: usize) -> Result<()> {
    one.docker(&format!("service scale -d many={count}"))?;
    until("the tasks to run", Duration::from_secs(60), || {
        let found = one.docker("service ls --format {{.Replicas}}")?;
        ensure!(found == format!("{count}/{count}"), "{found}");
        Ok(())
    })
}

#[test]
fn a_container_more_takes_little_of_the_daemon_and_of_the_hosts_tables() -> Result<()> {
    const FEW: usize = 4;
    const MANY: usize = 28;
    let one = One::start()?;
    one.docker("swarm init --advertise-addr eth0")?;
    one.docker("network create -d overlay over")?;
    one.docker("service create -d --name many --network over --replicas 0 busybox sleep 3600")?;
    scaled(&one, FEW)?;
    let few = held(&one)?;
    scaled(&one, MANY)?;
    let more = MANY - FEW;
    until("what was needed for a moment to go", Duration::from_secs(30), || {
        let many = held(&one)?;
        // Its shim's connection, its resolver's two sockets and its network namespace.
        ensure!(many.0 - few.0 <= 4 * more + 4, "descriptors: {few:?}, {many:?}");
        ensure!(many.1 == few.1, "mounts: {few:?}, {many:?}");
        Ok(())
    })?;

    // Network namespaces are where people and tools look for them, and can be entered.
    let pins = one.host.sh("ls /run/docker/netns | wc -l")?.text()?;
    ensure!(pins.trim().parse::<usize>()? >= MANY, "{pins} pins");
    let first = one.docker("ps -q")?.lines().next().unwrap_or_default().to_owned();
    let key =
        one.docker(&format!("inspect --format {{{{.NetworkSettings.SandboxKey}}}} {first}"))?;
    ensure!(one.host.sh(&format!("nsenter --net={key} ip -o link"))?.text()?.contains("eth0"));

    // A container sees its own mounts only, and what is in its root is reached from outside.
    let seen = one.docker(&format!("exec {first} cat /proc/self/mountinfo"))?;
    ensure!(!seen.contains("netns") && seen.matches(" - overlay ").count() == 1, "{seen}");
    one.docker(&format!("exec {first} sh -c 'echo here > /note'"))?;
    one.host.sh("echo in > /tmp/in")?.text()?;
    one.docker(&format!("cp /tmp/in {first}:/in"))?;
    let packed = one.host.sh(&format!("docker export {first} | tar -t"))?.text()?;
    ensure!(packed.lines().any(|l| l == "note") && packed.lines().any(|l| l == "in"), "{packed}");
    ensure!(!packed.contains("proc/self"), "what is mounted in it was packed");

    // Those who are to see them do: links of containers, pins of networks.
    let all = "run --rm -v /run/docker:/d busybox ls /d/netns";
    ensure!(one.docker(all)?.lines().count() >= MANY, "the links cannot be shown to a container");
    let inside = "run --rm -v /:/h:ro busybox grep -c /run/docker/netns/ /proc/self/mountinfo";
    let seen: usize = one.docker(inside)?.trim().parse()?;
    ensure!((1..MANY).contains(&seen), "a container with all has {seen} pins");
    // Whoever sees the host's processes can enter them there too.
    let link = key.trim().rsplit('/').next().unwrap_or_default();
    let enter = format!(
        "run --rm --privileged --pid host -v /run/docker:/d busybox \
         nsenter --net=/d/netns/{link} ip -o link"
    );
    ensure!(one.docker(&enter)?.contains("eth0"));

    one.docker("service rm many")?;
    until("the containers to go", Duration::from_secs(60), || {
        let left = one.docker("ps -aq")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    until("all that they took to be given back", Duration::from_secs(30), || {
        let (descriptors, mounts) = held(&one)?;
        ensure!(descriptors <= few.0 && mounts <= few.1, "{few:?}: {descriptors}, {mounts}");
        Ok(())
    })
}
