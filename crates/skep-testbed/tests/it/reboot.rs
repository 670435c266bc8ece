//! A host that loses its power comes back as Docker's does: what its restart policies say runs again,
//! services converge, published ports answer, and nothing of the last boot is taken for living.

use anyhow::{Result, ensure};
use skep_testbed::{Bed, Host, Image, executable};

use crate::fixture::One;

/// Cuts the power of the only host and starts its daemon again.
fn power_cycle(one: One, flags: &[&str]) -> Result<One> {
    let One { daemon, host, bed } = one;
    daemon.kill()?;
    let host = bed.reboot(host)?;
    let left = host.sh("ls -d /run/docker* /run/netns || true")?.stdout;
    ensure!(left.is_empty(), "of the last boot there is still {left}");
    let links = host.sh("ip -br link show | wc -l")?.text()?;
    ensure!(links == "2", "{links} links instead of lo and eth0");
    let daemon = host.daemon(flags)?;
    Ok(One { daemon, host, bed })
}

/// Containers that differ in their policies and in what was done to them.
fn containers_of_all_kinds(one: &One) -> Result<()> {
    for (name, policy) in [
        ("no", "no"),
        ("failing", "on-failure"),
        ("failing-by-hand", "on-failure"),
        ("unless", "unless-stopped"),
        ("unless-by-hand", "unless-stopped"),
        ("always", "always"),
        ("always-by-hand", "always"),
    ] {
        one.docker(&format!("run -d --name {name} --restart {policy} busybox sleep 1000"))?;
    }
    one.docker("run -d --name done --restart on-failure busybox true")?;
    one.docker("run -d --name once --rm busybox sleep 1000")?;
    one.docker("create --name new --restart always busybox sleep 1000")?;
    one.docker("run -d --name paused busybox sleep 1000")?;
    one.docker("exec always sh -c 'echo kept > /kept'")?;
    one.docker("pause paused")?;
    one.docker("stop -t 0 unless-by-hand always-by-hand failing-by-hand")?;
    one.prints("docker inspect --format '{{.State.Status}}' done", "exited")
}

/// What a Docker daemon makes of them when the host is up again, in one point told apart: Docker starts
/// `failing-by-hand` too, because its code is not 0, which its documentation says it does not.
fn as_dockers(one: &One) -> Result<()> {
    let states = "docker ps -aq | xargs docker inspect --format \
                  '{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}' | sort";
    let expected = "/always running 0 0
/always-by-hand running 0 0
/done exited 0 0
/failing running 0 0
/failing-by-hand exited 137 0
/new created 0 0
/no exited 255 0
/paused exited 255 0
/unless running 0 0
/unless-by-hand exited 137 0";
    one.prints(states, expected)?;
    let shown = one.docker("ps -a --format '{{.Names}}: {{.Status}}'")?;
    for (name, status) in [
        ("no", "Exited (255) "),
        ("paused", "Exited (255) "),
        ("unless-by-hand", "Exited (137) "),
        ("done", "Exited (0) "),
        ("new", "Created"),
        ("always", "Up "),
    ] {
        let line = format!("{name}: {status}");
        ensure!(shown.lines().any(|shown| shown.starts_with(&line)), "{line:?} is not in\n{shown}");
    }
    assert_eq!(one.docker("exec always cat /kept")?, "kept");
    Ok(())
}

/// Running containers have something in their bundles and no others have, and every namespace that is listed can be entered.
fn nothing_stale(host: &Host, exec_root: &str) -> Result<()> {
    let bundles =
        format!("find {exec_root}/containers -mindepth 2 -printf '%P\\n' | cut -d/ -f1 | sort -u");
    let bundles = host.sh(&bundles)?.text()?;
    assert_eq!(bundles, host.sh("docker ps -q --no-trunc | sort")?.text()?);
    host.sh(&format!(
        "for space in {exec_root}/netns/*; do nsenter --net=$space true || exit 1; done"
    ))?
    .text()?;
    let idle = host.sh("ip -br link show type veth | grep -v ' UP ' || true")?.stdout;
    ensure!(idle.is_empty(), "links that nobody uses: {idle}");
    Ok(())
}

#[test]
fn restart_policies_decide_what_runs_again() -> Result<()> {
    let one = One::start()?;
    containers_of_all_kinds(&one)?;
    let one = power_cycle(one, &[])?;
    as_dockers(&one)?;
    nothing_stale(&one.host, "/run/docker")?;
    // What did not come back by itself is as usable as ever.
    one.docker("start no unless-by-hand new")?;
    one.prints(
        "docker inspect --format '{{.State.Status}}' no unless-by-hand new | uniq",
        "running",
    )?;
    one.docker("rm -f paused no")?;
    Ok(())
}

#[test]
fn an_exec_root_that_outlived_the_boot_deceives_nobody() -> Result<()> {
    let flags = ["--exec-root", "/var/lib/skep/exec"];
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let daemon = host.daemon(&flags)?;
    host.import(&bed, &Image::busybox())?;
    let one = One { daemon, host, bed };
    containers_of_all_kinds(&one)?;
    let one = power_cycle(one, &flags)?;
    as_dockers(&one)?;
    nothing_stale(&one.host, "/var/lib/skep/exec")
}

#[test]
fn services_ports_and_overlays_come_back() -> Result<()> {
    let mut one = One::swarm()?;
    let client = one.outsider()?;
    one.docker("network create -d overlay --attachable net")?;
    one.docker("service create --quiet --name web --replicas 2 --network net -p 8000:8000 whoami")?;
    one.docker(
        "service create --quiet --name each --mode global -p mode=host,published=8001,target=8000 whoami",
    )?;
    one.docker("run -d --name port --restart always -p 9000:8000 whoami")?;
    one.docker("run -d --name member --restart always --network net busybox sleep 1000")?;
    one.docker("run -d --name guest --network net busybox sleep 1000")?;
    let tasks = "ps -q --no-trunc --filter label=com.docker.swarm.service.name";
    let before = one.docker(tasks)?;
    ensure!(before.lines().count() == 3, "{before}");
    let addresses = "service inspect web --format '{{json .Endpoint.VirtualIPs}}'";
    let virtual_addresses = one.docker(addresses)?;

    let one = power_cycle(one, &[])?;
    one.converged("web", "2/2")?;
    one.converged("each", "1/1")?;
    one.prints("docker ps -q | wc -l", "5")?;
    one.prints(
        "docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' guest",
        "exited 255",
    )?;
    assert_eq!(one.docker(addresses)?, virtual_addresses);

    // The tasks are new ones; the old ones are told from them.
    let after = one.docker(tasks)?;
    for task in before.lines() {
        ensure!(!after.contains(task), "{task} runs again");
        let state = one.docker(&format!(
            "inspect --format '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' {task}"
        ))?;
        assert_eq!(state, "exited 255");
    }
    let history = one
        .docker("service ps web each --format '{{.DesiredState}} {{.CurrentState}} {{.Error}}'")?;
    ensure!(history.matches("Running Running ").count() == 3, "{history}");
    ensure!(history.matches("Shutdown Failed ").count() == 3, "{history}");

    let host = one.host.address();
    for port in [8000, 8001, 9000] {
        let said = client.sh(&format!("curl -sSf -m 5 http://{host}:{port}/"))?.text()?;
        ensure!(said.starts_with("I'm "), "{port}: {said}");
    }
    // Both tasks get their turn.
    let four = format!(
        "for i in 1 2 3 4; do curl -sSf -m 5 http://{host}:8000/; done | sort | uniq -c | wc -l"
    );
    assert_eq!(client.sh(&four)?.text()?, "2");
    ensure!(one.docker("exec member wget -qO- http://web:8000/")?.starts_with("I'm "));
    let tasks = one.docker("exec member nslookup tasks.web")?;
    assert_eq!(tasks.matches("Address: ").count(), 2, "{tasks}");
    nothing_stale(&one.host, "/run/docker")?;

    one.docker("service rm web each")?;
    one.docker("rm -f member guest port")?;
    one.docker("network rm net")?;
    one.prints("docker ps -q | wc -l", "0")
}
