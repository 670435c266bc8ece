//! Starting containers.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use skep_testbed::{Host, until};

use crate::table::{Table, median};

const RUNS: usize = 15;

/// `docker run --rm busybox true`, in turns.
pub fn run_to_end(table: &mut Table, ours: &Host, peer: Option<&Host>) -> Result<()> {
    let once = |host: &Host| -> Result<f64> {
        let begin = Instant::now();
        host.docker(&["run", "--rm", "busybox", "true"])?;
        Ok(begin.elapsed().as_secs_f64())
    };
    let mut own = Vec::new();
    let mut other = Vec::new();
    for _ in 0..RUNS {
        own.push(once(ours)?);
        if let Some(peer) = peer {
            other.push(once(peer)?);
        }
    }
    let client = {
        let begin = Instant::now();
        for _ in 0..RUNS {
            ours.docker(&["version", "--format", "x"])?;
        }
        begin.elapsed().as_secs_f64() / RUNS as f64
    };
    table.row(
        "`docker run --rm busybox true`, median of 15",
        &format!("{:.3} s (of it {client:.3} s the client itself)", median(&mut own)),
        peer.map(|_| format!("{:.3} s", median(&mut other))),
        "0.10 s",
    );
    Ok(())
}

/// From 4 to 40 tasks of a service.
pub fn scale(table: &mut Table, ours: &Host, peer: Option<&Host>) -> Result<()> {
    let once = |host: &Host| -> Result<f64> {
        let took = grow(host)?;
        until("the tasks to go", Duration::from_secs(120), || {
            let left = host.docker(&["ps", "-aq"])?;
            if left.is_empty() { Ok(()) } else { Err(anyhow!("{} left", left.lines().count())) }
        })?;
        Ok(took)
    };
    let own = once(ours)?;
    let other = peer.map(once).transpose()?;
    table.row(
        "36 more tasks on a service",
        &format!("{own:.2} s"),
        other.map(|took| format!("{took:.2} s")),
        "3 s",
    );
    Ok(())
}

/// Seconds from 4 to 40 running tasks of a service, which is removed afterwards.
pub fn grow(manager: &Host) -> Result<f64> {
    manager.sh(
        "docker service create -d --name many --replicas 4 --stop-grace-period 1ms busybox sleep 3600",
    )?
    .text()?;
    replicas(manager, "4/4")?;
    let begin = Instant::now();
    manager.docker(&["service", "scale", "-d", "many=40"])?;
    replicas(manager, "40/40")?;
    let took = begin.elapsed().as_secs_f64();
    manager.docker(&["service", "rm", "many"])?;
    Ok(took)
}

/// Waits until the only service shows these replicas.
pub fn replicas(host: &Host, wanted: &str) -> Result<()> {
    until(&format!("{wanted} tasks"), Duration::from_secs(120), || {
        let found = host.docker(&["service", "ls", "--format", "{{.Replicas}}"])?;
        ensure!(found == wanted, "{found}");
        Ok(())
    })
}
