//! One host with two daemons: skep's and Docker's own. Neither disturbs the other's containers, whichever was
//! first.

use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Result, anyhow, ensure};
use skep_testbed::{Bed, Host, Image, Peer, executable, until};

use crate::fixture::LIMIT;

/// The client's options for the skep daemon that runs beside Docker's.
const SKEP: &str = "-H unix:///run/skep.sock";
/// Published by Docker, and by skep.
const PORTS: [u16; 2] = [8081, 8082];

/// Asks a port without a pause until it is stopped; counts answers and failures.
struct Asking {
    child: Child,
    counts: std::path::PathBuf,
}

impl Asking {
    fn start(client: &Host, port: u16) -> Result<Self> {
        let counts = client.folder().join(format!("asked-{port}"));
        let script = format!(
            "good=0 bad=0; trap 'echo $good $bad > {}; exit' TERM
             while :; do
                 if curl -sf -m 5 -o /dev/null http://10.77.0.1:{port}; then good=$((good+1)); else bad=$((bad+1)); fi
             done",
            counts.display()
        );
        let child = client.command("sh", &["-c", &script]).stdin(Stdio::null()).spawn()?;
        Ok(Self { child, counts })
    }

    /// Answers and failures.
    fn stop(mut self, client: &Host) -> Result<(u32, u32)> {
        let name = self.counts.display();
        client.sh(&format!("pkill -TERM -f 'echo .good .bad > {name}'"))?;
        self.child.wait()?;
        let text = std::fs::read_to_string(&self.counts)?;
        let numbers: Vec<u32> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [good, bad] = numbers[..] else { return Err(anyhow!("counts: {text:?}")) };
        Ok((good, bad))
    }
}

fn docker_first(host: &Host) -> Result<Peer> {
    Peer::start(host, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peer"))
}

fn skep_beside(host: &Host) -> Result<Child> {
    let log =
        std::fs::File::options().create(true).append(true).open(host.folder().join("skep.log"))?;
    let folders = ["--data-root", "/var/lib/skep/skep", "--exec-root", "/run/skep"];
    let child = host
        .command(executable("skep")?, &["daemon", "--pidfile", "/run/skep.pid"])
        .args(folders)
        .args(["--host", "unix:///run/skep.sock", "--cgroup-parent", host.cgroup_parent()])
        // As where Docker is installed.
        .env("PATH", path_with_dockerd()?)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    until("skep to answer", LIMIT, || {
        host.sh(&format!("docker {SKEP} version"))?.text().map_err(|error| {
            anyhow!("{error}: {:?}", std::fs::read_to_string(host.folder().join("skep.log")))
        })
    })?;
    Ok(child)
}

fn path_with_dockerd() -> Result<String> {
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peer").canonicalize()?;
    Ok(format!("{}:{}/usr/sbin", std::env::var("PATH").unwrap_or_default(), peer.display()))
}

fn end_skep(host: &Host, mut child: Child) -> Result<()> {
    host.sh("kill -9 $(cat /run/skep.pid)")?.text()?;
    child.wait()?;
    Ok(())
}

/// Imports whoami and publishes it.
fn publish(bed: &Bed, host: &Host, options: &str, port: u16) -> Result<()> {
    let archive = bed.archive(&Image::whoami(&executable("whoami")?))?;
    let import = "--change 'CMD [\"/bin/whoami\"]' --change 'EXPOSE 8000'";
    host.sh(&format!("docker {options} import {import} {} whoami", archive.display()))?.text()?;
    let run = format!("docker {options} run -d --name web -p {port}:8000 whoami");
    host.sh(&run)?.text()?;
    Ok(())
}

/// The bridges of the host with their addresses, and who is pinned where Docker pins.
fn docker_s(host: &Host) -> Result<String> {
    host.sh("ip -4 -o addr show docker0; ip -o link show master docker0 | cut -d: -f2; ls /run/docker/netns")?
        .text()
}

fn answers(client: &Host, port: u16) -> Result<()> {
    until("the port to answer", LIMIT, || {
        client.sh(&format!("curl -sf -m 5 http://10.77.0.1:{port}/full"))?.text()
    })?;
    Ok(())
}

#[test]
#[ignore = "needs Docker's own daemon: make peer"]
fn skep_starts_beside_docker() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let (host, client) = (bed.host("node0")?, bed.host("client")?);
    let _docker = docker_first(&host)?;
    publish(&bed, &host, "", PORTS[0])?;
    answers(&client, PORTS[0])?;
    let before = docker_s(&host)?;
    // With Docker's paths it says what to do.
    let refused = host.sh(&format!("{} daemon 2>&1 || true", executable("skep")?.display()))?;
    ensure!(refused.stdout.contains("beside it with its own --data-root"), "{refused:?}");

    let docker = Asking::start(&client, PORTS[0])?;
    let skep = skep_beside(&host)?;
    publish(&bed, &host, SKEP, PORTS[1])?;
    answers(&client, PORTS[1])?;
    let ours = Asking::start(&client, PORTS[1])?;
    end_skep(&host, skep)?;
    let skep = skep_beside(&host)?;
    host.sh(&format!("docker {SKEP} network create more"))?.text()?;
    host.sh(&format!("docker {SKEP} run --rm --network more whoami /bin/sh -c true"))?.text()?;
    for asking in [docker, ours] {
        let (good, bad) = asking.stop(&client)?;
        ensure!(good > 0 && bad == 0, "{good} answers, {bad} failures");
    }
    ensure!(docker_s(&host)? == before, "{before} became {}", docker_s(&host)?);
    end_skep(&host, skep)
}

#[test]
#[ignore = "needs Docker's own daemon: make peer"]
fn docker_starts_beside_skep() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let (host, client) = (bed.host("node0")?, bed.host("client")?);
    let skep = skep_beside(&host)?;
    publish(&bed, &host, SKEP, PORTS[1])?;
    answers(&client, PORTS[1])?;
    let ours = Asking::start(&client, PORTS[1])?;
    let _docker = docker_first(&host)?;
    publish(&bed, &host, "", PORTS[0])?;
    answers(&client, PORTS[0])?;
    let docker = Asking::start(&client, PORTS[0])?;
    // A firewall that is loaded anew while both run.
    host.sh("iptables -P FORWARD DROP")?.text()?;
    let before = docker_s(&host)?;
    end_skep(&host, skep)?;
    let skep = skep_beside(&host)?;
    answers(&client, PORTS[1])?;
    for asking in [docker, ours] {
        let (good, bad) = asking.stop(&client)?;
        ensure!(good > 0 && bad == 0, "{good} answers, {bad} failures");
    }
    ensure!(docker_s(&host)? == before, "{before} became {}", docker_s(&host)?);
    let bridge =
        host.sh(&format!("docker {SKEP} network inspect bridge -f '{{{{json .Options}}}}'"))?;
    ensure!(!bridge.stdout.contains("docker0"), "{bridge:?}");
    end_skep(&host, skep)
}
