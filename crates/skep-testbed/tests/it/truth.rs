//! What the tables say is what the kernel does: after meddling, after a crash, under storms.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Bed, Daemon, Host, Image, executable, until};

use crate::fixture::{LIMIT, One};

const METRICS: &[&str] = &["--metrics-addr", "127.0.0.1:9323"];
/// Well below the half minute between two verifications: what is put right within it was noticed.
const NOTICED: Duration = Duration::from_secs(10);

/// [`One::swarm`] with metrics.
fn swarm() -> Result<One> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let daemon = host.daemon(METRICS)?;
    host.import(&bed, &Image::busybox())?;
    host.import(&bed, &Image::whoami(&executable("whoami")?))?;
    host.docker(&["swarm", "init", "--advertise-addr", "eth0"])?;
    Ok(One { daemon, host, bed })
}

/// Kills the daemon, does something while nobody looks, and starts it again.
fn crash(one: One, meanwhile: impl FnOnce(&Host) -> Result<()>) -> Result<One> {
    let One { daemon, host, bed } = one;
    daemon.kill()?;
    meanwhile(&host)?;
    let daemon = host.daemon(METRICS)?;
    Ok(One { daemon, host, bed })
}

/// Lines of the log that say that something went wrong.
fn errors(daemon: &Daemon) -> Result<Vec<String>> {
    Ok(daemon.log()?.lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect())
}

fn no_errors(daemon: &Daemon) -> Result<()> {
    let errors = errors(daemon)?;
    ensure!(errors.is_empty(), "{} errors in the log:\n{}", errors.len(), errors.join("\n"));
    Ok(())
}

/// The sum of a counter over its labels.
fn counter(host: &Host, name: &str) -> Result<u64> {
    let page = host.sh("curl -sf http://127.0.0.1:9323/metrics")?.text()?;
    let samples = page.lines().filter(|line| {
        line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
    });
    let values: Vec<u64> = samples
        .map(|line| {
            line.rsplit(' ').next().unwrap_or_default().parse().with_context(|| line.to_owned())
        })
        .collect::<Result<_>>()?;
    ensure!(!values.is_empty(), "no {name} in:\n{page}");
    Ok(values.iter().sum())
}

/// Requests from elsewhere, one new connection each, until told to stop.
struct Load {
    loop_: Child,
    client: Host,
}

impl Load {
    /// `request` is a shell command; what it says on failure ends up in the verdict.
    fn start(client: Host, request: &str) -> Result<Self> {
        let script = format!(
            "rm -f /run/stop; n=0; fails=0; while [ ! -e /run/stop ]; do n=$((n+1)); \
             said=$({request} 2>&1) || {{ fails=$((fails+1)); echo \"$(date +%T.%N): $? $said\"; }}; done; \
             echo $fails failed of $n"
        );
        let loop_ = client.command("sh", &["-c", &script]).stdout(Stdio::piped()).spawn()?;
        Ok(Self { loop_, client })
    }

    /// Ends the loop. How many requests there were; an error if one failed.
    fn stop(self) -> Result<u64> {
        self.client.sh("touch /run/stop")?.text()?;
        let said = String::from_utf8(self.loop_.wait_with_output()?.stdout)?;
        let last = said.lines().last().unwrap_or_default();
        ensure!(last.starts_with("0 failed of "), "{said}");
        last.rsplit(' ').next().unwrap_or_default().parse().context("count the requests")
    }
}

fn curl(host: &Host, port: u16) -> String {
    // A lost SYN is sent again after one second, and again after two more.
    format!("curl -sSf -o /dev/null -m 10 http://{}:{port}/", host.address())
}

/// Thirty rounds of a shell line that takes an overlay away and makes it again at once.
fn rounds(one: &One, line: &str) -> Result<()> {
    let running = "$(docker ps -q --filter label=com.docker.swarm.service.name=web)";
    let script = format!(
        "set -e; create() {{ docker service create -qd --name web --network demo --stop-grace-period 1ms busybox sleep 600; \
         until [ -n \"{running}\" ]; do sleep 0.02; done; }}; \
         for i in $(seq 30); do {line}; done"
    );
    let mut command = one.host.command("timeout", &["150", "sh", "-c", &script]);
    skep_testbed::run(&mut command)?.text()?;
    no_errors(&one.daemon)
}

#[test]
fn an_overlay_without_tasks_can_be_used_again_at_once() -> Result<()> {
    let one = One::swarm()?;
    one.docker("network create -d overlay demo")?;
    // The overlay leaves the kernel with its last container, and comes with the next.
    rounds(
        &one,
        "create; docker service rm web; while [ -n \"$(docker ps -aq)\" ]; do sleep 0.01; done",
    )
}

#[test]
fn a_removed_overlay_can_be_made_again_at_once() -> Result<()> {
    let one = One::swarm()?;
    rounds(
        &one,
        "docker network create -d overlay demo; create; docker service rm web; \
         until docker network rm demo 2>/dev/null; do sleep 0.02; done",
    )
}
