//! Containers, networks and the mesh outlive the daemon.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::fixture::{LIMIT, One};

#[test]
fn a_killed_daemon_finds_its_containers_again() -> Result<()> {
    let one = One::start()?;
    one.docker(
        "run -d --name box busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done'",
    )?;
    one.docker("run -d --name ends busybox sh -c 'sleep 1; exit 5'")?;
    let pid = one.docker("inspect --format '{{.State.Pid}}' box")?;
    let One { daemon, host, bed } = one;
    daemon.kill()?;
    ensure!(host.sh(&format!("kill -0 {pid}"))?.success(), "the container died with the daemon");
    // The other container ends while nobody looks.
    skep_testbed::until("the container to end", LIMIT, || {
        if host.sh("pgrep -f '[e]xit 5'")?.success() {
            Err(anyhow::anyhow!("it runs"))
        } else {
            Ok(())
        }
    })?;
    let daemon = host.daemon(&[])?;
    let one = One { daemon, host, bed };
    assert_eq!(one.docker("inspect --format '{{.State.Pid}}' box")?, pid);
    one.prints("docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' ends", "exited 5")?;
    // Every number is in the log, once.
    let logs = one.docker("logs box")?;
    let numbers: Vec<u64> = logs.lines().map(|line| line.parse().unwrap_or(0)).collect();
    ensure!(numbers.iter().copied().eq(1..=numbers.len() as u64), "holes in {numbers:?}");
    assert_eq!(one.docker("exec box echo again")?, "again");
    one.docker("rm -f box ends")?;
    Ok(())
}

#[test]
fn a_graceful_stop_leaves_containers_running() -> Result<()> {
    let one = One::start()?;
    one.docker("run -d --name box busybox sleep 600")?;
    let pid = one.docker("inspect --format '{{.State.Pid}}' box")?;
    let One { daemon, host, bed } = one;
    daemon.stop()?;
    ensure!(host.sh(&format!("kill -0 {pid}"))?.success());
    let daemon = host.daemon(&[])?;
    let one = One { daemon, host, bed };
    assert_eq!(one.docker("inspect --format '{{.State.Pid}}' box")?, pid);
    Ok(())
}

#[test]
fn the_mesh_serves_while_the_daemon_is_killed_and_started() -> Result<()> {
    let mut one = One::swarm()?;
    let client = one.outsider()?;
    one.docker("service create --name web --replicas 2 -p 8000:8000 whoami")?;
    let url = format!("http://{}:8000/", one.host.address());
    let load = format!(
        "fails=0; n=0; end=$(($(date +%s)+6)); while [ $(date +%s) -lt $end ]; do n=$((n+1)); curl -sf --connect-timeout 0.95 -m 2 {url} >/dev/null || fails=$((fails+1)); done; echo $fails of $n"
    );
    let mut loader = client.command("sh", &["-c", &load]);
    let loader = loader.stdout(std::process::Stdio::piped()).spawn()?;
    let One { daemon, host, bed } = one;
    daemon.kill()?;
    let before = Instant::now();
    let daemon = host.daemon(&[])?;
    ensure!(before.elapsed() < Duration::from_secs(10));
    let one = One { daemon, host, bed };
    one.converged("web", "2/2")?;
    let output = String::from_utf8(loader.wait_with_output()?.stdout)?;
    ensure!(output.starts_with("0 of "), "requests failed: {output}");
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_is_killed() -> Result<()> {
    let mut one = One::swarm()?;
    for round in 0..4 {
        one.docker(&format!("service create -d --name s{round} busybox sleep 600"))?;
        let One { daemon, host, bed } = one;
        daemon.kill()?;
        let daemon = host.daemon(&[])?;
        one = One { daemon, host, bed };
    }
    for round in 0..4 {
        one.converged(&format!("s{round}"), "1/1")?;
    }
    one.prints("docker ps -q | wc -l", "4")?;
    Ok(())
}
