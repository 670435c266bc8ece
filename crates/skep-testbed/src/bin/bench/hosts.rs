//! Several hosts: the mesh between them, and how soon all know what one did.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use skep_testbed::{Bed, Daemon, Host, Image, executable, until};

use crate::mesh::{cable, compare};
use crate::start::{grow, replicas as converged};
use crate::table::{Table, median};

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
    let direct = format!("http://{}/", cable(holder, &swarm.client)?);
    compare(table, "a task on another host", &swarm.client, holder, &published, &direct)?;
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
    for watch in watch(swarm, 2)? {
        seen(watch)?;
    }
    let mut up = Vec::new();
    let mut down = Vec::new();
    for _ in 0..CHANGES / 2 {
        for (replicas, times) in [(3, &mut up), (2, &mut down)] {
            let watches = watch(swarm, replicas)?;
            let begin = now()?;
            swarm.manager().docker(&["service", "scale", "-d", &format!("web={replicas}")])?;
            let mut last = begin;
            for watch in watches {
                last = last.max(seen(watch)?);
            }
            times.push(last - begin);
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

/// A shell on each host that ends when the load balancer has so many tasks, and says when.
fn watch(swarm: &Swarm, tasks: usize) -> Result<Vec<Child>> {
    let script = format!(
        "while [ \"$(nsenter --net=/run/docker/netns/ingress_sbox nft list chain ip skep tcp-8080 2>/dev/null | \
         grep -o '10\\.0\\.0\\.[0-9]*' | sort -u | wc -l)\" != {tasks} ]; do sleep 0.005; done; date +%s.%N"
    );
    swarm
        .hosts
        .iter()
        .map(|host| {
            host.command("timeout", &["60", "sh", "-c", &script])
                .stdout(Stdio::piped())
                .spawn()
                .context("watch a load balancer")
        })
        .collect()
}

/// Seconds since 1970.
fn seen(watch: Child) -> Result<f64> {
    let said = String::from_utf8(watch.wait_with_output()?.stdout)?;
    said.trim().parse().context("a load balancer did not get the change within a minute")
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// A host dies with everything on it.
fn death(table: &mut Table, swarm: &Swarm) -> Result<()> {
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
    for watch in watch(swarm, 3)? {
        seen(watch)?;
    }
    let watches = watch(swarm, 2)?;
    let begin = now()?;
    let started = Instant::now();
    swarm.hosts[2].sh("kill -9 -1")?;
    let mut last = begin;
    // The dead host's own watch died with it.
    for watch in watches.into_iter().take(2) {
        last = last.max(seen(watch)?);
    }
    table.row(
        "a host killed: out of rotation on the others",
        &format!("{:.1} s", last - begin),
        None,
        "3 s",
    );
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
