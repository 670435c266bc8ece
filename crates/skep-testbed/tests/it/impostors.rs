//! Hosts that are not what they should be: copies of others, and such whose clocks are wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use skep_testbed::{Bed, Image, executable, run, until};

use crate::fixture::LIMIT;
use crate::several::Several;

/// Nodes that the manager knows, whatever they call themselves.
const NODES: &str = "docker node ls -q | wc -l";

#[test]
fn a_copy_of_a_host_is_told_and_leaves_no_harm() -> Result<()> {
    let mut three = Several::start(3)?;
    three.docker(0, "swarm init --advertise-addr eth0")?;
    let token = three.token()?;
    three.docker(1, &format!("swarm join --token {token} 10.77.0.1"))?;
    for host in &three.hosts {
        host.import(&three.bed, &Image::whoami(&executable("whoami")?))?;
    }
    three.docker(0, "service create -d --name web --mode global -p 8000:8000 whoami")?;
    three.converged("web", "2/2")?;
    // The third host becomes the second one's double.
    three.kill_daemon(2)?;
    let from = three.hosts[1].folder().join("data/swarm");
    run(Command::new("cp").arg("-a").arg(from).arg(three.hosts[2].folder().join("data/")))?
        .text()?;
    three.start_daemon(2)?;
    until("the manager to notice", LIMIT, || {
        let log = three.log(0)?;
        ensure!(log.contains("another host may have a copy of its state"), "not in the log");
        Ok(())
    })?;
    // Either is told why, where its user looks.
    until("the hosts to say so", LIMIT, || {
        let said: Vec<String> = (1..3)
            .map(|host| three.docker(host, "info -f '{{.Swarm.Error}}'"))
            .collect::<Result<_>>()?;
        ensure!(said.iter().any(|text| text.contains("another host may have")), "{said:?}");
        Ok(())
    })?;
    // Nobody else is harmed: no node came, and the manager's own task answers.
    three.prints(0, NODES, "2")?;
    three.prints(
        0,
        "docker ps -q --filter label=com.docker.swarm.service.name=web | wc -l",
        "1",
    )?;
    // Without the copy all is well again.
    three.crash(2)?;
    three.plug(2, false)?;
    three.node_is(1, "Ready")?;
    three.converged("web", "2/2")?;
    until("both tasks to answer on both hosts", LIMIT, || {
        for host in 0..2 {
            let url = format!("http://{}:8000/", three.hosts[host].address());
            let line = format!("for n in 1 2 3 4; do curl -sSf -m 1 {url}; done | sort -u | wc -l");
            let found = three.hosts[0].sh(&line)?.text()?;
            ensure!(found == "2", "{found} tasks answer on host {host}");
        }
        Ok(())
    })?;
    three.prints(0, NODES, "2")
}

/// A bed whose daemons take the seconds in their host's `/run/skew` for the error of its clock.
fn bed_with_clocks(folder: &std::path::Path) -> Result<Bed> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/skewed_clock.c");
    let library = folder.join("skewed_clock.so");
    let mut compiler = Command::new("cc");
    run(compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source))?.text()?;
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD={}\nexec {} \"$@\"\n",
        library.display(),
        executable("skep")?.display()
    );
    let skep = folder.join("skep");
    std::fs::write(&skep, script)?;
    std::fs::set_permissions(&skep, std::fs::Permissions::from_mode(0o755))?;
    Bed::new(&skep)
}

/// Puts a host's clock wrong and starts its daemon anew.
fn start_with_clock(three: &mut Several, host: usize, skew: i64) -> Result<()> {
    three.kill_daemon(host)?;
    three.hosts[host].sh(&format!("echo {skew} >/run/skew"))?.text()?;
    three.start_daemon(host)
}

#[test]
fn a_wrong_clock_is_told_and_forgiven_when_it_is_right() -> Result<()> {
    const YEAR: i64 = 365 * 24 * 3600;
    let folder = tempfile::tempdir()?;
    let mut three = Several::start_in(bed_with_clocks(folder.path())?, &[0, 0, 0])?;
    three.docker(0, "swarm init --advertise-addr eth0")?;
    let join = format!("swarm join --token {} 10.77.0.1", three.token()?);
    // Half an hour ahead is within what certificates allow for, and so are some minutes behind.
    start_with_clock(&mut three, 1, 1800)?;
    three.docker(1, &join)?;
    three.docker(0, "service create -d --name web --mode global busybox sleep 600")?;
    three.converged("web", "2/2")?;
    start_with_clock(&mut three, 1, -180)?;
    three.node_is(1, "Ready")?;
    three.converged("web", "2/2")?;
    // A year is not, in either direction: who would join is told, and left as it was.
    for skew in [-YEAR, YEAR] {
        start_with_clock(&mut three, 2, skew)?;
        let said = three.refused(2, &join, Duration::from_secs(20))?;
        ensure!(said.contains("check the clocks"), "{skew}: {said}");
        assert_eq!(three.docker(2, "info -f '{{.Swarm.LocalNodeState}}'")?, "inactive");
    }
    // Who is in already keeps its containers, says why it has no manager, and comes back by itself.
    for skew in [-YEAR, YEAR] {
        let container = three.docker(1, "ps -q --no-trunc")?;
        start_with_clock(&mut three, 1, skew)?;
        three.node_is(1, "Down")?;
        let said = three.docker(1, "info -f '{{.Swarm.Error}}'")?;
        ensure!(said.contains("is only valid from") && said.contains("now is"), "{skew}: {said}");
        assert_eq!(three.docker(1, "ps -q --no-trunc")?, container, "{skew}");
        // The time is set while the daemon runs, as after a boot.
        three.hosts[1].sh("rm /run/skew")?.text()?;
        three.node_is(1, "Ready")?;
        three.converged("web", "2/2")?;
        // Its task was given up meanwhile; the new one takes over.
        until("the new task to take over", LIMIT, || {
            let now = three.docker(1, "ps -q --no-trunc")?;
            ensure!(now.lines().count() == 1 && now != container, "{container} before, {now} now");
            Ok(())
        })?;
    }
    Ok(())
}
