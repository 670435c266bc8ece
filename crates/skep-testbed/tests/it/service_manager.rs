//! Started by a service manager: sockets that wait before the daemon runs, and word of its life.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Bed, Host, executable, run, until};

use crate::fixture::LIMIT;

/// A host with somebody who writes down, in /run/states, what the daemon tells its service manager.
struct Managed {
    host: Host,
    skep: PathBuf,
    /// What the daemon finds in `NOTIFY_SOCKET`.
    address: &'static str,
    bed: Bed,
}

impl Managed {
    fn start(address: &'static str) -> Result<Self> {
        let skep = executable("skep")?;
        let mut bed = Bed::new(&skep)?;
        let host = bed.host("node0")?;
        let (kind, name) = match address.strip_prefix('@') {
            Some(name) => ("ABSTRACT-RECV", name),
            None => ("UNIX-RECV", address),
        };
        // Once the daemon says that it is ready, it must answer; what it answers is written down too.
        let script = format!(
            "socat -u {kind}:{name} STDOUT | while read -r state; do echo \"$state\"; \
             [ \"$state\" != READY=1 ] || timeout 10 docker version --format '{{{{.Server.Os}}}}' 2>&1; \
             done > /run/states"
        );
        host.command("sh", &["-c", &script]).stdin(Stdio::null()).spawn().context("start socat")?;
        let listens = match kind {
            "UNIX-RECV" => format!("test -S {name}"),
            _ => format!("grep -q '@{name}$' /proc/net/unix"),
        };
        until("socat to listen", LIMIT, || host.sh(&listens)?.text())?;
        Ok(Self { host, skep, address, bed })
    }

    /// `skep daemon` with these flags, started by these words in front of it.
    fn spawn(&self, before: &[&str], flags: &[&str]) -> Result<Child> {
        let skep = self.skep.to_str().context("a path in UTF-8")?;
        let own = [skep, "daemon", "--cgroup-parent", self.host.cgroup_parent()];
        let words: Vec<&str> = [&["env"], before, &own, flags].concat();
        let log = std::fs::File::create(self.host.folder().join("daemon.log"))?;
        self.host
            .command(words[0], &words[1..])
            .env("NOTIFY_SOCKET", self.address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start the daemon")
    }

    fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.host.folder().join("daemon.log")).context("read the log")
    }

    /// What was said so far, without moments of the clock.
    fn states(&self) -> Result<String> {
        self.host.sh("sed 's/USEC=[0-9]*/USEC=…/' /run/states | paste -sd ' '")?.text()
    }

    fn says(&self, states: &str) -> Result<()> {
        until(&format!("the daemon to say {states:?}"), LIMIT, || {
            let said = self.states()?;
            if said == states { Ok(()) } else { Err(anyhow!("{said:?}, {}", self.log()?)) }
        })
    }

    /// Sends the daemon a signal.
    fn signal(&self, name: &str) -> Result<()> {
        self.host.sh(&format!("kill -{name} $(cat /run/docker.pid)"))?.text()?;
        Ok(())
    }

    /// Ends the daemon with SIGTERM.
    fn stop(&self, mut daemon: Child) -> Result<()> {
        self.signal("TERM")?;
        let status = until("the daemon to end", LIMIT, || {
            daemon.try_wait().map_err(|e| anyhow!("{e}"))?.ok_or_else(|| anyhow!("it runs"))
        })?;
        ensure!(status.success(), "it ended with {status}: {}", self.log()?);
        Ok(())
    }
}

/// `systemd-socket-activate` binds, waits for the first connection and becomes the daemon.
const ACTIVATE: &[&str] =
    &["systemd-socket-activate", "-E", "NOTIFY_SOCKET", "-E", "PATH", "-l", "/run/docker.sock"];

#[test]
fn a_client_that_came_before_the_daemon_gets_its_answer() -> Result<()> {
    // Handed over sockets are also what a daemon without any -H listens on.
    for flags in [&["-H", "fd://"][..], &["-H", "fd://3"], &["-H", "fd://docker"], &[]] {
        let managed = Managed::start("/run/notify.sock")?;
        let daemon = managed.spawn(&[ACTIVATE, &["--fdname", "docker"]].concat(), flags)?;
        until("the socket", LIMIT, || managed.host.sh("test -S /run/docker.sock")?.text())?;
        ensure!(managed.host.sh("test -e /run/docker.pid")?.code == Some(1), "the daemon runs");
        // One attempt; the daemon has not even been started.
        let id = managed.host.docker(&["info", "--format", "{{.ID}}"])?;
        ensure!(id.len() == 36, "{id:?}");
        managed.says("READY=1 linux")?;
        managed.stop(daemon)?;
        managed.says("READY=1 linux STOPPING=1")?;
        // The socket is the service manager's: it stays for the next daemon.
        managed.host.sh("test -S /run/docker.sock")?.text()?;
    }
    Ok(())
}

#[test]
fn containers_do_not_keep_the_service_managers_socket() -> Result<()> {
    let managed = Managed::start("/run/notify.sock")?;
    let daemon = managed.spawn(ACTIVATE, &["-H", "fd://"])?;
    until("the socket", LIMIT, || managed.host.sh("test -S /run/docker.sock")?.text())?;
    managed.host.import(&managed.bed, &skep_testbed::Image::busybox())?;
    managed.host.docker(&["run", "-d", "--name", "box", "busybox", "sleep", "600"])?;
    managed.stop(daemon)?;
    let held = managed.host.sh("ss -Hlxp | grep docker.sock")?;
    ensure!(held.stdout.is_empty(), "held by {}", held.stdout);
    Ok(())
}

#[test]
fn sockets_are_chosen_and_wrong_ones_refused() -> Result<()> {
    let managed = Managed::start("/run/notify.sock")?;
    let two =
        [&ACTIVATE[..5], &["--fdname", "one:two", "-l", "/run/one.sock", "-l", "/run/two.sock"]]
            .concat();
    let daemon = managed.spawn(&two, &["-H", "fd://two", "-H", "unix:///run/docker.sock"])?;
    until("the socket", LIMIT, || managed.host.sh("test -S /run/two.sock")?.text())?;
    managed.host.sh("docker -H unix:///run/two.sock version")?.text()?;
    let other = managed.host.sh("timeout 2 docker -H unix:///run/one.sock version")?;
    ensure!(!other.success(), "{other:?}");
    managed.stop(daemon)?;

    let port = [&ACTIVATE[..5], &["-l", "0.0.0.0:2375"]].concat();
    let wake = "curl -s -m 5 http://127.0.0.1:2375/version; true";
    let table = [
        (&[][..], "fd://", "", "handed over no socket"),
        (
            &two,
            "fd://three",
            "curl -s -m 5 --unix-socket /run/one.sock http://x/; true",
            "\"three\"",
        ),
        (&two, "fd://9", "curl -s -m 5 --unix-socket /run/one.sock http://x/; true", "\"9\""),
        (&port, "fd://", wake, "0.0.0.0:2375 without TLS client verification"),
    ];
    for (before, address, wake, named) in table {
        managed.host.sh("rm -f /run/one.sock /run/two.sock")?;
        let mut daemon = managed.spawn(before, &["-H", address])?;
        let status = until("the daemon to end", LIMIT, || {
            managed.host.sh(wake).map_err(|e| anyhow!("{e:#}"))?;
            daemon.try_wait().map_err(|e| anyhow!("{e}"))?.ok_or_else(|| anyhow!("it runs"))
        })?;
        let log = managed.log()?;
        ensure!(status.code() == Some(1) && log.contains(named), "{address}: {status} {log}");
    }
    managed.says("READY=1 linux STOPPING=1")
}

#[test]
fn ready_is_said_when_the_api_answers_and_never_before() -> Result<()> {
    for address in ["/run/notify.sock", "@skep-notify"] {
        let managed = Managed::start(address)?;
        // Every part must have started: the network cannot here, and the images not there.
        for obstacle in ["/var/lib/skep/network", "/var/lib/skep/image"] {
            managed.host.sh(&format!(
                "mkdir -p $(dirname {obstacle}) && rm -rf {obstacle} && echo rubbish > {obstacle}"
            ))?.text()?;
            let status = managed.spawn(&[], &[])?.wait()?;
            ensure!(status.code() == Some(1), "{obstacle}: {status} {}", managed.log()?);
            managed.host.sh(&format!("rm {obstacle}"))?.text()?;
        }
        assert_eq!(managed.states()?, "", "said by a daemon that could not start");

        let daemon = managed.spawn(&[], &[])?;
        managed.says("READY=1 linux")?;
        managed.signal("HUP")?;
        let reloaded = "READY=1 linux RELOADING=1 MONOTONIC_USEC=… READY=1 linux";
        managed.says(reloaded)?;
        managed.stop(daemon)?;
        managed.says(&format!("{reloaded} STOPPING=1"))?;
    }
    Ok(())
}

#[test]
fn a_service_manager_that_is_gone_does_not_stop_the_daemon() -> Result<()> {
    let managed = Managed::start("/run/notify.sock")?;
    managed.host.sh("rm /run/notify.sock")?.text()?;
    let daemon = managed.spawn(&[], &[])?;
    until("the daemon to answer", LIMIT, || managed.host.docker(&["version"]))?;
    ensure!(managed.log()?.contains("nobody will hear that the daemon is ready"));
    managed.stop(daemon)
}

#[test]
fn the_units_are_valid() -> Result<()> {
    let packaging = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    let folder = tempfile::tempdir().context("make a folder")?;
    let skep = executable("skep")?;
    for name in ["skep.service", "skep.socket"] {
        let unit = std::fs::read_to_string(packaging.join(name)).context("read the unit")?;
        // What a unit starts must exist.
        let unit = unit.replace("/usr/local/bin/skep", &skep.display().to_string());
        std::fs::write(folder.path().join(name), unit).context("write the unit")?;
    }
    let mut verify = std::process::Command::new("systemd-analyze");
    verify.arg("verify").args(["skep.service", "skep.socket"].map(|name| folder.path().join(name)));
    let finished = run(&mut verify)?;
    let said: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("skep")).collect();
    ensure!(finished.success() && said.is_empty(), "{finished:?}");
    Ok(())
}
