//! Memory of idle daemons and of what stands beside each container.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use skep_testbed::{Daemon, Host};

use crate::table::Table;

const CONTAINERS: usize = 10;

/// The daemon while it does nothing; `what` says when, and what it is to be.
pub fn daemon(
    table: &mut Table,
    (what, wanted): (&str, &str),
    daemon: &Daemon,
    peer: Option<&Host>,
) -> Result<()> {
    let own = pages(&daemon.pid().to_string())?;
    let other = match peer {
        Some(host) => Some(sum(&pids(host, "dockerd|containerd( |$)")?)?),
        None => None,
    };
    let text =
        |p: &Pages| format!("{}, {} of it its own", megabytes(p.resident), megabytes(p.anonymous));
    table.row(
        &format!("{what}, resident"),
        &text(&own),
        other.map(|p| format!("{}, with its containerd", text(&p))),
        wanted,
    );
    Ok(())
}

/// What stands beside each container.
pub fn shims(table: &mut Table, ours: &Host, peer: Option<&Host>) -> Result<()> {
    let shims = |host: &Host, pattern: &str| -> Result<Pages> {
        for _ in 0..CONTAINERS {
            host.docker(&["run", "-d", "--label", "bench", "busybox", "sleep", "3600"])?;
        }
        skep_testbed::until("the starters to end", Duration::from_secs(10), || {
            let found = pids(host, pattern)?.len();
            if found == CONTAINERS { Ok(()) } else { Err(anyhow!("{found} processes")) }
        })?;
        let pages = sum(&pids(host, pattern)?)?;
        host.sh("docker rm -f $(docker ps -aq --filter label=bench)")?.text()?;
        let each = |total: u64| total / CONTAINERS as u64;
        Ok(Pages { resident: each(pages.resident), anonymous: each(pages.anonymous) })
    };
    let own = shims(ours, "skep shim")?;
    let other = peer.map(|host| shims(host, "containerd-shim")).transpose()?;
    let both =
        |p: &Pages| format!("{}, {} resident", megabytes(p.anonymous), megabytes(p.resident));
    table.row(
        "beside each container, its own pages",
        &both(&own),
        other.as_ref().map(both),
        "2 MB",
    );
    Ok(())
}

/// Kilobytes.
struct Pages {
    resident: u64,
    /// Neither shared nor pages of a file.
    anonymous: u64,
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
        // Of what has ended and is only waited for there is no command line left.
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|own| own == space)
                && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
        })
        .map(str::to_owned)
        .collect())
}

fn sum(pids: &[String]) -> Result<Pages> {
    let mut total = Pages { resident: 0, anonymous: 0 };
    for pid in pids {
        let one = pages(pid)?;
        total.resident += one.resident;
        total.anonymous += one.anonymous;
    }
    Ok(total)
}

/// Kilobytes of a process that are in memory.
pub fn resident(pid: &str) -> Result<u64> {
    Ok(pages(pid)?.resident)
}

fn pages(pid: &str) -> Result<Pages> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("read the memory of process {pid}"))?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok(Pages { resident: field("Rss:"), anonymous: field("Anonymous:") })
}
