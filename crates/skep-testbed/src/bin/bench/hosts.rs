//! Several hosts: the mesh between them, and how soon all know what one did.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use skep_testbed::{Bed, Daemon, Host, Image, executable, until};

use crate::mesh::{Ways, cable, compare, tunnel};
use crate::start::{grow, replicas as converged};
use crate::table::{Table, median};
use crate::watch::Watch;

const LIMIT: Duration = Duration::from_secs(60);
/// Changes of a service that are timed.
const CHANGES: usize = 20;

/// Hosts in one swarm, the first is the manager.
struct Swarm {
    hosts: Vec<Host>,
    _daemons: Vec<Daemon>,
    client: Host,
    _bed: Bed,
}

impl Swarm {
    fn new(count: usize) -> Result<Self> {
        let mut bed = Bed::new(&executable("skep")?)?;
        let mut hosts = Vec::new();
        let mut daemons = Vec::new();
        let mut token = String::new();
        for number in 0..count {
            let host = bed.host(&format!("node{number}"))?;
            daemons.push(host.daemon(&["--log-level", "warn"])?);
            host.import(&bed, &Image::busybox())?;
            if number == 0 {
                host.docker(&["swarm", "init", "--advertise-addr", "eth0"])?;
                token = host.docker(&["swarm", "join-token", "-q", "worker"])?;
            } else {
                host.docker(&["swarm", "join", "--token", &token, "10.77.0.1:2377"])?;
            }
            hosts.push(host);
        }
        let client = bed.host("client")?;
        Ok(Self { hosts, _daemons: daemons, client, _bed: bed })
    }

    fn manager(&self) -> &Host {
        &self.hosts[0]
    }
}

/// Everything with several hosts.
pub fn measure(table: &mut Table) -> Result<()> {
    let three = Swarm::new(3)?;
    remote_mesh(table, &three)?;
    spread(table, &three)?;
    knowledge(table, &three, 3)?;
    death(table, &three)?;
    drop(three);
    knowledge(table, &Swarm::new(10)?, 10)
}

/// A task on another host than the one that is asked.
fn remote_mesh(table: &mut Table, swarm: &Swarm) -> Result<()> {
    let [entered, holder, ..] = &swarm.hosts[..] else { anyhow::bail!("two hosts are needed") };
    holder.import(&swarm._bed, &Image::nginx())?;
    swarm.manager().docker(&[
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "--constraint",
        "node.hostname==node1",
        "-p",
        "8080:80",
        "nginx",
    ])?;
    let published = format!("http://{}:8080/", entered.address());
    until("the published port", LIMIT, || {
        swarm.client.sh(&format!("curl -sf -m 2 {published}"))?.text()
    })?;
    let direct = format!("http://{}/", cable(holder, &swarm.client, Some(entered))?);
    let tunnel = Some(format!("http://{}/", tunnel(holder, &swarm.client, entered)?));
    let ways = Ways { client: &swarm.client, entered, holder, published, direct, tunnel };
    compare(table, "a task on another host", &ways)?;
    for host in [entered, holder] {
        host.sh("tc qdisc del dev eth0 root")?.text()?;
    }
    swarm.manager().docker(&["service", "rm", "web"])?;
    Ok(())
}

/// Many tasks at once on two hosts.
fn spread(table: &mut Table, swarm: &Swarm) -> Result<()> {
    swarm.manager().docker(&["node", "update", "--availability", "drain", "node2"])?;
    let took = grow(swarm.manager())?;
    table.row("36 more tasks on two hosts", &format!("{took:.2} s"), None, "3 s");
    swarm.manager().docker(&["node", "update", "--availability", "active", "node2"])?;
    Ok(())
}

/// From `service scale` until every host's load balancer has the change.
fn knowledge(table: &mut Table, swarm: &Swarm, count: usize) -> Result<()> {
    let mut watches = watch(&swarm.hosts)?;
    let begin = SystemTime::now();
    swarm.manager().docker(&[
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "--replicas",
        "2",
        "--stop-grace-period",
        "1ms",
        "-p",
        "8080:80",
        "busybox",
        "sleep",
        "3600",
    ])?;
    since(begin, &mut watches, 2)?;
    converged(swarm.manager(), "2/2")?;
    let mut up = Vec::new();
    let mut down = Vec::new();
    for _ in 0..CHANGES / 2 {
        for (replicas, times) in [(3, &mut up), (2, &mut down)] {
            let begin = SystemTime::now();
            swarm.manager().docker(&["service", "scale", "-d", &format!("web={replicas}")])?;
            times.push(since(begin, &mut watches, replicas)?);
            converged(swarm.manager(), &format!("{replicas}/{replicas}"))?;
        }
    }
    let mut text = Vec::new();
    for (what, times) in [("up", &mut up), ("down", &mut down)] {
        let middle = median(times);
        let worst = times.iter().copied().fold(0.0, f64::max);
        text.push(format!("{what} {middle:.3} s, worst {worst:.3} s"));
    }
    table.row(
        &format!(
            "from `service scale` by one task to the load balancers of {count} hosts, median of 10"
        ),
        &text.join("; "),
        None,
        "0.3 s",
    );
    swarm.manager().docker(&["service", "rm", "web"])?;
    Ok(())
}

/// Listeners on these hosts.
fn watch(hosts: &[Host]) -> Result<Vec<Watch>> {
    hosts.iter().map(Watch::start).collect()
}

/// Seconds from `begin` until the last of them had so many tasks.
fn since(begin: SystemTime, watches: &mut [Watch], tasks: usize) -> Result<f64> {
    let mut last = begin;
    for watch in watches {
        last = last.max(watch.has(tasks)?);
    }
    Ok(last.duration_since(begin)?.as_secs_f64())
}

/// A host dies with everything on it.
fn death(table: &mut Table, swarm: &Swarm) -> Result<()> {
    // The dead host's own listener would die with it.
    let mut watches = watch(&swarm.hosts[..2])?;
    let created = SystemTime::now();
    swarm.manager().docker(&[
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "--replicas",
        "3",
        "-p",
        "8080:80",
        "busybox",
        "sleep",
        "3600",
    ])?;
    since(created, &mut watches, 3)?;
    let (begin, started) = (SystemTime::now(), Instant::now());
    swarm.hosts[2].sh("kill -9 -1")?;
    let out = since(begin, &mut watches, 2)?;
    table.row("a host killed: out of rotation on the others", &format!("{out:.1} s"), None, "3 s");
    until("its task to run elsewhere", LIMIT, || {
        let running = swarm.manager().sh(
            "docker service ps web --filter desired-state=running --format '{{.Node}} {{.CurrentState}}' \
             | grep -v node2 | grep -c ' Running'",
        )?;
        ensure!(running.stdout.trim() == "3", "{}", running.stdout);
        Ok(())
    })?;
    table.row(
        "a host killed: its tasks running elsewhere",
        &format!("{:.1} s", started.elapsed().as_secs_f64()),
        None,
        "8 s",
    );
    Ok(())
}
