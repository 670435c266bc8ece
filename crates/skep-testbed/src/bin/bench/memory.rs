//! Memory of idle daemons and of what stands beside each container.

use anyhow::{Context as _, Result};
use skep_testbed::{Daemon, Host};

use crate::table::Table;

const CONTAINERS: usize = 10;

pub fn measure(table: &mut Table, ours: &Host, daemon: &Daemon, peer: Option<&Host>) -> Result<()> {
    let own = pages(&daemon.pid().to_string())?;
    let other = match peer {
        Some(host) => Some(sum(&pids(host, "dockerd|containerd$")?)?),
        None => None,
    };
    table.row(
        "idle daemon in a swarm, resident",
        &megabytes(own.resident),
        other.map(|p| format!("{} with its containerd", megabytes(p.resident))),
        "30 MB",
    );

    let shims = |host: &Host, pattern: &str| -> Result<Pages> {
        for _ in 0..CONTAINERS {
            host.docker(&["run", "-d", "--label", "bench", "busybox", "sleep", "3600"])?;
        }
        let pages = sum(&pids(host, pattern)?)?;
        host.sh("docker rm -f $(docker ps -aq --filter label=bench)")?.text()?;
        let each = |total: u64| total / CONTAINERS as u64;
        Ok(Pages { resident: each(pages.resident), proportional: each(pages.proportional) })
    };
    let own = shims(ours, "skep shim")?;
    let other = peer.map(|host| shims(host, "containerd-shim")).transpose()?;
    let both = |p: &Pages| {
        format!("{} proportional, {} resident", megabytes(p.proportional), megabytes(p.resident))
    };
    table.row("beside each container", &both(&own), other.as_ref().map(both), "2 MB");
    Ok(())
}

/// Kilobytes.
struct Pages {
    resident: u64,
    /// Shared pages divided among those that share them.
    proportional: u64,
}

fn megabytes(kilobytes: u64) -> String {
    format!("{:.1} MB", kilobytes as f64 / 1024.0)
}

/// Process ids, as the machine knows them, of a host's processes whose command line fits.
fn pids(host: &Host, pattern: &str) -> Result<Vec<String>> {
    let space =
        std::fs::read_link(format!("/proc/{}/ns/pid", host.pid())).context("find the host")?;
    let found = skep_testbed::run(std::process::Command::new("pgrep").args(["-f", pattern]))?;
    Ok(found
        .stdout
        .lines()
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|own| own == space)
        })
        .map(str::to_owned)
        .collect())
}

fn sum(pids: &[String]) -> Result<Pages> {
    let mut total = Pages { resident: 0, proportional: 0 };
    for pid in pids {
        let one = pages(pid)?;
        total.resident += one.resident;
        total.proportional += one.proportional;
    }
    Ok(total)
}

fn pages(pid: &str) -> Result<Pages> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("read the memory of process {pid}"))?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok(Pages { resident: field("Rss:"), proportional: field("Pss:") })
}
