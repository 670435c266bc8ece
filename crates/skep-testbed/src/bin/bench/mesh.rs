//! Requests through a published port from another host, against the container's own address over the
//! same links.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Host, until};

use crate::table::{Table, median};

const ROUNDS: usize = 5;

pub fn measure(table: &mut Table, node: &Host, client: &Host) -> Result<()> {
    node.docker(&["service", "create", "-d", "--name", "web", "-p", "8080:80", "nginx"])?;
    let published = format!("http://{}:8080/", node.address());
    until("the published port", Duration::from_secs(30), || {
        client.sh(&format!("curl -sf -m 2 {published}"))?.text()
    })?;
    let task = node.docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=web"])?;
    let address = node
        .sh(&format!("docker exec {task} ip -4 -o addr show eth1 | sed 's/.*inet //; s,/.*,,'"))?;
    let address = address.text()?;
    ensure!(address.starts_with("172."), "the task's address on docker_gwbridge is {address:?}");
    client.sh(&format!("ip route replace {address} via {}", node.address()))?.text()?;
    let direct = format!("http://{address}/");
    until("the container's own address", Duration::from_secs(5), || {
        client.sh(&format!("curl -sf -m 2 {direct}"))?.text()
    })
    .map_err(|error| {
        anyhow!(
            "{error:#}\nrules: {}",
            node.sh("nft list ruleset").map(|f| f.stdout).unwrap_or_default()
        )
    })?;

    for (what, flags) in [("keep-alive", ""), ("new connections", "-H 'Connection: close'")] {
        let mut ratios = Vec::new();
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let through = rate(client, flags, &published)?;
            let plain = rate(client, flags, &direct)?;
            ratios.push(through / plain);
            rates.push(through);
        }
        table.row(
            &format!(
                "requests through a published port, {what}, against the container's own address"
            ),
            &format!("{:.0} % ({:.0} requests/s)", median(&mut ratios) * 100.0, median(&mut rates)),
            None,
            "60 %",
        );
    }
    node.docker(&["service", "rm", "web"])?;
    Ok(())
}

/// Requests per second.
fn rate(client: &Host, flags: &str, url: &str) -> Result<f64> {
    let text = client.sh(&format!("wrk -t1 -c16 -d3s {flags} {url}"))?.text()?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok())
        .with_context(|| format!("wrk said {text}"))
}
