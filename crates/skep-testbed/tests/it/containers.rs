//! `docker run` and what goes with it.

use anyhow::{Result, ensure};

use crate::fixture::One;

#[test]
fn run_prints_what_the_container_prints_and_ends_as_it_ends() -> Result<()> {
    let one = One::start()?;
    assert_eq!(one.docker("run --rm busybox echo hello")?, "hello");
    let failed = one.host.sh("docker run --rm busybox sh -c 'echo out; echo err >&2; exit 7'")?;
    assert_eq!(
        (failed.code, failed.stdout.as_str(), failed.stderr.as_str()),
        (Some(7), "out\n", "err\n")
    );
    assert_eq!(
        one.host.sh("echo from-stdin | docker run --rm -i busybox cat")?.text()?,
        "from-stdin"
    );
    assert_eq!(one.docker("ps -aq")?, "", "--rm left something");
    Ok(())
}

#[test]
fn what_cannot_start_says_why() -> Result<()> {
    let one = One::start()?;
    let missing = one.host.sh("docker run --rm busybox nosuch")?;
    assert_eq!(missing.code, Some(127), "{missing:?}");
    ensure!(missing.stderr.contains("executable file not found in $PATH"), "{}", missing.stderr);
    let folder = one.host.sh("docker run --rm busybox /etc")?;
    assert_eq!(folder.code, Some(126), "{folder:?}");
    let said = one.refused("run --rm nosuchimage:1")?;
    ensure!(said.contains("nosuchimage"), "{said}");
    assert_eq!(one.docker("ps -aq")?, "");
    Ok(())
}

#[test]
fn flags_of_run_reach_the_process() -> Result<()> {
    let one = One::start()?;
    let table = [
        ("-e A=1 -e B=2", "sh -c 'echo $A$B'", "12"),
        ("-w /tmp", "pwd", "/tmp"),
        ("-u nobody", "id -u", "65534"),
        ("-u 12:34", "sh -c 'echo $(id -u):$(id -g)'", "12:34"),
        ("--hostname box", "hostname", "box"),
        ("--entrypoint echo", "changed", "changed"),
        ("--init", "sh -c 'cat /proc/1/comm | cut -c1-11'", "docker-init"),
        ("--read-only", "sh -c 'touch /x 2>/dev/null || echo no'", "no"),
        ("--read-only --tmpfs /t", "sh -c 'touch /t/x && echo yes'", "yes"),
        ("--ulimit nofile=100:200", "sh -c 'ulimit -n'", "100"),
        (
            "--sysctl net.ipv4.ip_local_port_range='2000 3000'",
            "sh -c 'set -- $(cat /proc/sys/net/ipv4/ip_local_port_range); echo $1-$2'",
            "2000-3000",
        ),
        (
            "--memory 64m",
            "sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max'",
            "67108864",
        ),
        (
            "--pids-limit 33",
            "sh -c 'cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max'",
            "33",
        ),
        ("--add-host there:192.0.2.9", "sh -c 'grep there /etc/hosts | cut -f1'", "192.0.2.9"),
        (
            "--dns 192.0.2.53 --dns-search example.org",
            "sh -c 'grep -c -e 192.0.2.53 -e example.org /etc/resolv.conf'",
            "2",
        ),
        ("--cap-drop ALL", "sh -c 'grep CapEff /proc/self/status | cut -f2'", "0000000000000000"),
        ("", "sh -c 'grep CapEff /proc/self/status | cut -f2'", "00000000a80425fb"),
        (
            "--security-opt no-new-privileges",
            "sh -c 'grep NoNewPrivs /proc/self/status | cut -f2'",
            "1",
        ),
        ("", "sh -c 'grep Seccomp: /proc/self/status | cut -f2'", "2"),
        (
            "--security-opt seccomp=unconfined",
            "sh -c 'grep Seccomp: /proc/self/status | cut -f2'",
            "0",
        ),
        ("--network none", "sh -c 'ls /sys/class/net'", "lo"),
        (
            "--shm-size 1m",
            "sh -c 'df -k /dev/shm | tail -1 | while read a b c; do echo $b; done'",
            "1024",
        ),
    ];
    let mut faults = Vec::new();
    for (flags, command, expected) in table {
        match one.docker(&format!("run --rm {flags} busybox {command}")) {
            Ok(found) if found == expected => {}
            other => faults.push(format!("{flags} {command}: expected {expected}, got {other:?}")),
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn a_container_lives_through_its_commands() -> Result<()> {
    let one = One::start()?;
    let id = one.docker("run -d --name box busybox sh -c 'trap \"echo bye; exit 3\" TERM; echo up; while :; do sleep 0.1; done'")?;
    assert_eq!(id.len(), 64);
    one.prints("docker logs box", "up")?;
    let status = one.docker("ps --format '{{.Names}} {{.Image}} {{.Status}}'")?;
    ensure!(status.starts_with("box busybox Up "), "{status}");
    assert_eq!(one.docker("exec -e X=5 -w /tmp box sh -c 'echo $X $PWD'")?, "5 /tmp");
    assert_eq!(one.host.sh("docker exec box sh -c 'exit 9'")?.code, Some(9));
    ensure!(one.docker("top box")?.contains("sleep"), "top shows no process");
    one.docker("pause box")?;
    assert_eq!(one.docker("inspect --format '{{.State.Status}}' box")?, "paused");
    one.docker("unpause box")?;
    one.docker("rename box bin")?;
    let refused = one.refused("rm bin")?;
    ensure!(refused.contains("cannot remove") && refused.contains("running"), "{refused}");
    one.docker("stop bin")?;
    assert_eq!(one.docker("inspect --format '{{.State.ExitCode}}' bin")?, "3");
    ensure!(one.docker("logs bin")?.ends_with("bye"));
    one.docker("start bin")?;
    one.docker("kill bin")?;
    assert_eq!(one.docker("wait bin")?, "137");
    one.docker("rm bin")?;
    let gone = one.refused("inspect bin")?;
    ensure!(gone.contains("o such object: bin"), "{gone}");
    Ok(())
}

#[test]
fn files_go_in_and_out() -> Result<()> {
    let one = One::start()?;
    one.docker("create --name box busybox true")?;
    one.host
        .sh("mkdir -p /run/in/sub && echo one > /run/in/a && echo two > /run/in/sub/b")?
        .text()?;
    one.docker("cp /run/in box:/srv")?;
    one.docker("cp box:/srv/sub/b /run/out")?;
    assert_eq!(one.host.sh("cat /run/out")?.text()?, "two");
    let changes = one.docker("diff box")?;
    ensure!(changes.contains("A /srv/sub/b"), "{changes}");
    let missing = one.refused("cp box:/nowhere /run/x")?;
    ensure!(missing.contains("/nowhere"), "{missing}");
    Ok(())
}

#[test]
fn a_terminal_is_a_terminal() -> Result<()> {
    let one = One::start()?;
    // `script` gives the client a terminal of its own.
    let typed = one.host.sh("printf 'tty; stty size; exit 4\\n' | \
         script -qec 'stty rows 33 cols 77; docker run --rm -it busybox sh' /dev/null")?;
    ensure!(typed.stdout.contains("/dev/pts/0"), "{typed:?}");
    ensure!(typed.stdout.contains("33 77"), "{typed:?}");
    assert_eq!(typed.code, Some(4));
    Ok(())
}

#[test]
fn restart_policies_and_health_checks() -> Result<()> {
    let one = One::start()?;
    one.docker("run -d --name again --restart on-failure:2 busybox sh -c 'exit 1'")?;
    one.prints("docker inspect --format '{{.RestartCount}} {{.State.Status}}' again", "2 exited")?;
    one.docker(
        "run -d --name sick --health-cmd 'test -e /ok' --health-interval 200ms --health-retries 2 \
         --health-timeout 5s busybox sleep 600",
    )?;
    one.prints("docker inspect --format '{{.State.Health.Status}}' sick", "unhealthy")?;
    one.docker("exec sick touch /ok")?;
    one.prints("docker inspect --format '{{.State.Health.Status}}' sick", "healthy")?;
    Ok(())
}

#[test]
fn statistics_and_events_flow() -> Result<()> {
    let one = One::start()?;
    one.docker("run -d --name busy busybox sh -c 'while :; do :; done'")?;
    let line =
        one.docker("stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}' busy")?;
    ensure!(line.starts_with("busy ") && !line.contains(" 0.00%"), "{line}");
    one.docker("rm -f busy")?;
    let events =
        one.docker("events --since 1h --until 0s --filter container=busy --format '{{.Action}}'")?;
    for action in ["create", "start", "kill", "die", "destroy"] {
        ensure!(events.lines().any(|line| line == action), "no {action} in {events}");
    }
    Ok(())
}
