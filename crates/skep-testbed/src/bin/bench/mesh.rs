//! Requests through a published port from another host, against the container's own address over the
//! same links.

use std::time::Duration;

use anyhow::{Context as _, Result};
use skep_testbed::{Bed, Host, Image, executable, until};

use crate::prepare;
use crate::table::{Table, median};

const ROUNDS: usize = 5;
/// Megabytes that are transferred in bulk.
const BULK: u32 = 256;
/// How often in one measurement: congestion control needs a while to find the rate.
const TIMES: usize = 6;
/// The task's address on a cable of its own, and the one behind a tunnel.
const DIRECT: &str = "192.0.2.2";
const TUNNELLED: &str = "198.51.100.2";
const SERVICE: &str = "label=com.docker.swarm.service.name=web";

/// A task on the host that is asked.
pub fn alone(table: &mut Table) -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let node = &bed.host("skep")?;
    let client = &bed.host("client")?;
    let _daemon = node.daemon(&["--log-level", "warn"])?;
    prepare(&bed, node)?;
    node.import(&bed, &Image::nginx())?;
    node.docker(&["service", "create", "-d", "--name", "web", "-p", "8080:80", "nginx"])?;
    let published = format!("http://{}:8080/", node.address());
    until("the published port", Duration::from_secs(30), || {
        client.sh(&format!("curl -sf -m 2 {published}"))?.text()
    })?;
    let direct = format!("http://{}/", cable(node, client, None)?);
    let ways = Ways { client, entered: node, holder: node, published, direct, tunnel: None };
    compare(table, "a task on the entered host", &ways)?;
    Ok(())
}

/// Two ways from a client to one task.
pub struct Ways<'a> {
    pub client: &'a Host,
    /// The host that is asked.
    pub entered: &'a Host,
    /// The host that runs the task.
    pub holder: &'a Host,
    pub published: String,
    pub direct: String,
    /// The direct way through a bare VXLAN tunnel, where the task is on another host.
    pub tunnel: Option<String>,
}

/// The same questions by both ways.
pub fn compare(table: &mut Table, what: &str, ways: &Ways<'_>) -> Result<()> {
    let Ways { client, entered, holder, published, direct, tunnel } = ways;
    until("the container's own address", Duration::from_secs(5), || {
        client.sh(&format!("curl -sf -m 2 {direct}"))?.text()
    })?;
    for (kind, flags) in [("keep-alive", ""), ("new connections", "-H 'Connection: close'")] {
        let mut ratios = Vec::new();
        let mut delays = Vec::new();
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let through = rate(client, flags, published)?;
            let plain = rate(client, flags, direct)?;
            ratios.push(through.rate / plain.rate);
            delays.push(through.slowest / plain.slowest);
            rates.push(through.rate);
        }
        table.row(
            &format!("published port, {what}, {kind}: rate and p99 latency against the container's own address"),
            &format!(
                "{:.0} % ({:.0} requests/s), {:.2} ×",
                median(&mut ratios) * 100.0,
                median(&mut rates),
                median(&mut delays)
            ),
            None,
            "60 %, 1.6 ×",
        );
    }
    holder.sh(&format!(
        "docker exec $(docker ps -q --filter {SERVICE}) busybox dd if=/dev/zero of=/srv/big bs=1M count={BULK}"
    ))?
    .text()?;
    // Links of this test bed are as fast as the processor; those of a data centre are not.
    for (limit, links) in [(None, ""), (Some("10gbit"), " over links of 10 Gbit/s")] {
        if let Some(rate) = limit {
            for host in [entered, holder] {
                host.sh(&format!(
                    "tc qdisc replace dev eth0 root tbf rate {rate} burst 1mb latency 20ms"
                ))?
                .text()?;
            }
        }
        let mut ratios = Vec::new();
        let mut tunnelled = Vec::new();
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let through = bulk(client, published)?;
            ratios.push(through / bulk(client, direct)?);
            if let Some(tunnel) = tunnel {
                tunnelled.push(through / bulk(client, tunnel)?);
            }
            rates.push(through);
        }
        table.row(
            &format!(
                "published port, {what}, bulk transfer{links} against the container's own address"
            ),
            &format!("{:.0} % ({:.2} GB/s)", median(&mut ratios) * 100.0, median(&mut rates) / 1e9),
            None,
            "90 %",
        );
        if !tunnelled.is_empty() {
            table.row(
                &format!(
                    "the same{links} against the container's own address through a bare VXLAN tunnel"
                ),
                &format!("{:.0} %", median(&mut tunnelled) * 100.0),
                None,
                "90 %",
            );
        }
    }
    Ok(())
}

/// Gives the task an address of its own over a cable from its host, which the client reaches by plain
/// routing: the same links, without the mesh. The way leads through `entered` in both directions where
/// the mesh is entered on another host. Returns that address.
///
/// The task sends by a congestion control without a pace of its own: one that estimates the rate, as BBR
/// does, shows its estimate and not what the way can carry.
pub fn cable(node: &Host, client: &Host, entered: Option<&Host>) -> Result<String> {
    let task = node.docker(&["ps", "-q", "--filter", SERVICE])?;
    let pid = node.docker(&["inspect", "--format", "{{.State.Pid}}", &task])?;
    node.sh(&format!(
        "set -e
         ip link add direct0 type veth peer name direct1 netns {pid}
         ip addr add 192.0.2.1/30 dev direct0
         ip link set direct0 up
         nsenter -t {pid} -n sh -c 'ip addr add {DIRECT}/30 dev direct1; ip link set direct1 up; \
             ip rule add from {DIRECT} lookup 79; \
             ip rule add from {TUNNELLED} lookup 79; ip route add default via 192.0.2.1 table 79; sysctl -qw net.ipv4.tcp_congestion_control=reno'"
    ))?
    .text()?;
    if let Some(entered) = entered {
        entered.sh(&format!("ip route replace {DIRECT} via {}", node.address()))?.text()?;
        node.sh(&format!(
            "ip rule add from {DIRECT} lookup 77 && ip route replace default via {} table 77",
            entered.address()
        ))?
        .text()?;
    }
    let first = entered.unwrap_or(node).address();
    client.sh(&format!("ip route replace {DIRECT} via {first}"))?.text()?;
    Ok(DIRECT.to_owned())
}

/// One more address of the task that [`cable`] gave a cable, which the client reaches through `entered` and
/// a tunnel from there: what every overlay between hosts costs, and nothing else. As with our own tunnels
/// nobody tracks its connections, and packets have room for its headers. Returns that address.
pub fn tunnel(node: &Host, client: &Host, entered: &Host) -> Result<String> {
    let address = TUNNELLED;
    let task = node.docker(&["ps", "-q", "--filter", SERVICE])?;
    let pid = node.docker(&["inspect", "--format", "{{.State.Pid}}", &task])?;
    for (host, other, number) in [(entered, node, 1), (node, entered, 2)] {
        host.sh(&format!(
            "set -e
             ip link add bare0 type vxlan id 99 dstport 4790 local {} remote {}
             ip addr add 198.51.101.{number}/24 dev bare0
             ip link set bare0 up
             nft 'add table ip bare; add chain ip bare in {{ type filter hook prerouting priority -300; }}; \
                  add chain ip bare out {{ type filter hook output priority -300; }}; \
                  add rule ip bare in udp dport 4790 notrack; add rule ip bare out udp dport 4790 notrack'",
            host.address(),
            other.address()
        ))?
        .text()?;
    }
    entered.sh(&format!("ip route add {address} via 198.51.101.2"))?.text()?;
    node.sh(&format!(
        "set -e
         nsenter -t {pid} -n ip addr add {address}/32 dev direct1
         ip route add {address} via {DIRECT}
         ip rule add from {address} lookup 78
         ip route add default via 198.51.101.1 table 78"
    ))?
    .text()?;
    client.sh(&format!("ip route add {address} via {} advmss 1410", entered.address()))?.text()?;
    Ok(address.to_owned())
}

/// What `wrk` found.
struct Rate {
    /// Requests per second.
    rate: f64,
    /// 99 of 100 answers came within; milliseconds.
    slowest: f64,
}

fn rate(client: &Host, flags: &str, url: &str) -> Result<Rate> {
    let text = client.sh(&format!("wrk -t1 -c16 -d3s --latency {flags} {url}"))?.text()?;
    let field = |name: &str| {
        text.lines().find_map(|line| Some(line.trim().strip_prefix(name)?.trim().to_owned()))
    };
    let rate = field("Requests/sec:").and_then(|text| text.parse().ok());
    let slowest = field("99%").and_then(|text| milliseconds(&text));
    rate.zip(slowest)
        .map(|(rate, slowest)| Rate { rate, slowest })
        .with_context(|| format!("wrk said {text}"))
}

/// `wrk` writes `812.00us`, `1.52ms`, `2.01s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = if let Some(number) = text.strip_suffix("us") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else {
        (text.strip_suffix('s')?, 1000.0)
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// Bytes per second, over one connection.
fn bulk(client: &Host, url: &str) -> Result<f64> {
    let line = format!(
        "curl -sf -w '%{{time_total}}\\n'{}",
        format!(" -o /dev/null {url}big").repeat(TIMES)
    );
    let text = client.sh(&line)?.text()?;
    let mut seconds = 0.0;
    for one in text.lines() {
        seconds += one.parse::<f64>().with_context(|| format!("curl said {text}"))?;
    }
    Ok(f64::from(BULK) * 1_048_576.0 * TIMES as f64 / seconds)
}
