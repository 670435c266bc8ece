//! Swarms of which some hosts run Docker's own daemon: the formats between nodes are the same.

use std::path::Path;

use anyhow::{Result, anyhow};
use skep_testbed::{Host, Image, Peer, until};

use crate::fixture::LIMIT;
use crate::several::Several;

/// A service whose one task is on the given host and says something every second.
fn talker(host: &str) -> String {
    format!(
        "service create -d --name talker --constraint node.hostname=={host} --stop-grace-period 1s \
         busybox sh -c 'while sleep 1; do echo hi; done'"
    )
}

/// A host with Docker's daemon and the busybox image.
fn docker_host(several: &mut Several) -> Result<(Peer, Host)> {
    let host = several.bed.host("docker")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peer");
    let peer = Peer::start(&host, &folder)?;
    host.import(&several.bed, &Image::busybox())?;
    Ok((peer, host))
}

/// Waits until a shell line on the host prints exactly this.
fn prints(host: &Host, line: &str, expected: &str) -> Result<()> {
    until(line, LIMIT, || {
        let found = host.sh(line)?;
        if found.stdout.trim_end() == expected { Ok(()) } else { Err(anyhow!("{found:?}")) }
    })
}

#[test]
#[ignore = "needs Docker's own daemon: make peer"]
fn a_docker_host_is_a_worker() -> Result<()> {
    let mut one = Several::start(1)?;
    one.docker(0, "swarm init --advertise-addr eth0")?;
    let (_peer, docker) = docker_host(&mut one)?;
    docker.docker(&["swarm", "join", "--token", &one.token()?, "10.77.0.1"])?;
    let list = "docker node ls --format '{{.Hostname}} {{.Status}}' | sort";
    one.prints(0, list, "docker Ready\nnode0 Ready")?;
    one.docker(0, &talker("docker"))?;
    one.converged("talker", "1/1")?;
    prints(&docker, "docker ps -q | wc -l", "1")?;
    one.prints(0, "docker service logs --raw --tail 1 talker", "hi")?;
    one.docker(0, "node update --availability drain docker")?;
    prints(&docker, "docker ps -q | wc -l", "0")?;
    docker.docker(&["swarm", "leave"])?;
    one.node_is_named("docker", "Down")?;
    one.docker(0, "node rm docker")?;
    Ok(())
}

#[test]
#[ignore = "needs Docker's own daemon: make peer"]
fn a_skep_host_is_a_worker_of_docker_s() -> Result<()> {
    let mut one = Several::start(1)?;
    let (_peer, docker) = docker_host(&mut one)?;
    docker.docker(&["swarm", "init", "--advertise-addr", "eth0"])?;
    let token = docker.docker(&["swarm", "join-token", "-q", "worker"])?;
    one.docker(0, &format!("swarm join --token {token} 10.77.0.2"))?;
    let list = "docker node ls --format '{{.Hostname}} {{.Status}}' | sort";
    prints(&docker, list, "docker Ready\nnode0 Ready")?;
    docker.sh(&format!("docker {}", talker("node0")))?.text()?;
    prints(&docker, "docker service ls --format '{{.Replicas}}'", "1/1")?;
    one.runs(0, "talker", 1)?;
    prints(&docker, "docker service logs --raw --tail 1 talker", "hi")?;
    one.kill_daemon(0)?;
    one.start_daemon(0)?;
    one.prints(0, "docker info --format '{{.Swarm.LocalNodeState}}'", "active")?;
    docker.docker(&["node", "update", "--availability", "drain", "node0"])?;
    one.runs(0, "talker", 0)?;
    one.docker(0, "swarm leave")?;
    Ok(())
}
