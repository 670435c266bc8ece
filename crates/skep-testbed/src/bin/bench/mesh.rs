//! Requests through a published port from another host, against the container's own address over the
//! same links.

use std::time::Duration;

use anyhow::{Context as _, Result};
use skep_testbed::{Host, until};

use crate::table::{Table, median};

const ROUNDS: usize = 5;

pub fn measure(table: &mut Table, node: &Host, client: &Host) -> Result<()> {
    node.docker(&["service", "create", "-d", "--name", "web", "-p", "8080:80", "nginx"])?;
    let published = format!("http://{}:8080/", node.address());
    until("the published port", Duration::from_secs(30), || {
        client.sh(&format!("curl -sf -m 2 {published}"))?.text()
    })?;
    let direct = format!("http://{}/", cable(node, client)?);
    until("the container's own address", Duration::from_secs(5), || {
        client.sh(&format!("curl -sf -m 2 {direct}"))?.text()
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

/// Gives the task an address of its own over a cable from its host, which the client reaches by plain
/// routing: the same links, without the mesh. Returns that address.
fn cable(node: &Host, client: &Host) -> Result<String> {
    let filter = "label=com.docker.swarm.service.name=web";
    let task = node.docker(&["ps", "-q", "--filter", filter])?;
    let pid = node.docker(&["inspect", "--format", "{{.State.Pid}}", &task])?;
    let back = client.address();
    node.sh(&format!(
        "set -e
         ip link add direct0 type veth peer name direct1 netns {pid}
         ip addr add 192.0.2.1/30 dev direct0
         ip link set direct0 up
         nsenter -t {pid} -n sh -c 'ip addr add 192.0.2.2/30 dev direct1; ip link set direct1 up; \
             ip route add {back} via 192.0.2.1'"
    ))?
    .text()?;
    client.sh(&format!("ip route replace 192.0.2.2 via {}", node.address()))?.text()?;
    Ok("192.0.2.2".to_owned())
}

/// Requests per second.
fn rate(client: &Host, flags: &str, url: &str) -> Result<f64> {
    let text = client.sh(&format!("wrk -t1 -c16 -d3s {flags} {url}"))?.text()?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok())
        .with_context(|| format!("wrk said {text}"))
}
