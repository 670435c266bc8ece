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
            "rm -f /run/stop; n=0; fails=0; while [ ! -e /run/stop ]; do n=$((n+1)); echo $n > /run/count; \
             said=$({request} 2>&1) || {{ fails=$((fails+1)); echo \"$(date +%T.%N): $? $said\"; }}; done; \
             echo $fails failed of $n"
        );
        let loop_ = client.command("sh", &["-c", &script]).stdout(Stdio::piped()).spawn()?;
        Ok(Self { loop_, client })
    }

    /// Waits for some more requests to be through.
    fn some(&self) -> Result<()> {
        more("requests", || {
            self.client.sh("cat /run/count")?.text()?.parse().context("count the requests")
        })
    }

    /// Ends the loop; an error if a request failed.
    fn stop(self) -> Result<()> {
        self.client.sh("touch /run/stop")?.text()?;
        let said = String::from_utf8(self.loop_.wait_with_output()?.stdout)?;
        let last = said.lines().last().unwrap_or_default();
        ensure!(last.starts_with("0 failed of "), "{said}");
        Ok(())
    }
}

/// Waits until a count is five further.
fn more(what: &str, count: impl Fn() -> Result<u64>) -> Result<()> {
    // The counter's file may be empty or not there yet for a moment.
    let first = until(what, LIMIT, &count)?;
    until(&format!("more {what}"), LIMIT, || {
        let now = count()?;
        if now >= first + 5 { Ok(()) } else { Err(anyhow!("{first} before, {now} now")) }
    })
}

fn curl(host: &Host, port: u16) -> String {
    // A lost SYN is sent again after one second: that would be too late.
    format!("curl -sSf -o /dev/null --connect-timeout 0.95 -m 5 http://{}:{port}/", host.address())
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
    // An update takes the only container off the overlay, which leaves the kernel, and puts the
    // next one on it.
    rounds(
        &one,
        "if [ $i = 1 ]; then create; fi; old=$(docker ps -q); docker service update -qd --force web; \
         while new=$(docker ps -q); [ -z \"$new\" ] || [ \"$new\" = \"$old\" ]; do sleep 0.02; done",
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

/// What somebody does to the kernel on the host, by name.
const MEDDLING: &[(&str, &str)] = &[
    ("the host's table", "nft delete table ip skep"),
    ("all rules of the host", "nft flush ruleset"),
    ("a port's chain of the host", "nft flush chain ip skep tcp-8000"),
    (
        "a chain of the mesh",
        "nsenter --net=/run/docker/netns/ingress_sbox nft flush chain ip skep tcp-8000",
    ),
    ("the mesh's table", "nsenter --net=/run/docker/netns/ingress_sbox nft delete table ip skep"),
    (
        "a task's rules",
        // By its process: the way by name needs the daemon.
        "for p in /proc/[0-9]*; do if [ \"$(cat $p/comm)\" = whoami ]; then nsenter --net=$p/ns/net nft flush ruleset; fi; done",
    ),
    (
        "cables to the host",
        "for p in $(ip -br link show type veth | grep ^veth | cut -d@ -f1); do ip link del $p; done",
    ),
    (
        "cables to the overlay",
        "nsenter --net=$(ls -d /run/docker/netns/1-*) sh -c 'for p in $(ip -br link show type veth | cut -d@ -f1); do ip link del $p; done'",
    ),
    ("the gateway's address", "ip addr flush dev docker_gwbridge"),
    ("the route to the gateway's subnet", "ip route del 172.18.0.0/16"),
    ("the gateway bridge", "ip link del docker_gwbridge"),
    ("the gateway bridge's state", "ip link set docker_gwbridge down"),
    ("the mesh's way back", "nsenter --net=/run/docker/netns/ingress_sbox ip route del default"),
    (
        "the mesh's route to its tasks",
        "nsenter --net=/run/docker/netns/ingress_sbox ip route del 10.0.0.0/24",
    ),
    ("the overlay's bridge", "nsenter --net=$(ls -d /run/docker/netns/1-*) ip link del br0"),
];

/// The log so far says so once more, and the counter counts it.
struct Repairs {
    counted: u64,
    logged: usize,
}

impl Repairs {
    fn so_far(one: &One) -> Result<Self> {
        let logged =
            one.daemon.log()?.matches("the kernel had drifted from the plan; repaired").count();
        Ok(Self { counted: counter(&one.host, "skep_net_repairs_total")?, logged })
    }
}

/// One published service of which every part of the way is checked.
fn serving() -> Result<(One, Host)> {
    let mut one = swarm()?;
    let client = one.outsider()?;
    one.docker("service create -q --name web --replicas 2 -p 8000:8000 whoami")?;
    Ok((one, client))
}

/// Each of two tasks answers, to the outside and to the host, and over the ingress network.
fn serves(one: &One, client: &Host) -> Result<()> {
    for (from, address) in [
        (client, one.host.address().to_string()),
        (&one.host, "127.0.0.1".to_owned()),
        (&one.host, "172.18.0.2".to_owned()),
    ] {
        let url = format!("http://{address}:8000/");
        let seen = from.sh(&format!("curl -sSf -m 0.5 {url} && curl -sSf -m 0.5 {url}"))?.text()?;
        let mut seen: Vec<&str> = seen.lines().collect();
        seen.dedup();
        ensure!(seen.len() == 2, "{address}: {seen:?}");
    }
    Ok(())
}

#[test]
fn what_somebody_takes_is_put_back_before_the_next_verification() -> Result<()> {
    let (one, client) = serving()?;
    serves(&one, &client)?;
    for (what, line) in MEDDLING {
        let before = Repairs::so_far(&one)?;
        one.host.sh(line)?.text().with_context(|| (*what).to_owned())?;
        until(what, NOTICED, || {
            serves(&one, &client)?;
            let now = Repairs::so_far(&one)?;
            ensure!(
                now.counted > before.counted && now.logged > before.logged,
                "it was not counted"
            );
            Ok(())
        })?;
    }
    no_errors(&one.daemon)
}

#[test]
fn what_somebody_takes_while_no_daemon_runs_is_put_back_by_the_next() -> Result<()> {
    let (mut one, client) = serving()?;
    for (what, line) in MEDDLING {
        one =
            crash(one, |host| host.sh(line)?.text().map(drop).with_context(|| (*what).to_owned()))?;
        until(what, NOTICED, || serves(&one, &client))?;
        ensure!(counter(&one.host, "skep_net_repairs_total")? > 0, "{what}: not counted");
    }
    // Of what nobody touched nothing is repaired.
    one = crash(one, |_| Ok(()))?;
    serves(&one, &client)?;
    assert_eq!(counter(&one.host, "skep_net_repairs_total")?, 0);
    no_errors(&one.daemon)
}

#[test]
fn what_others_write_is_none_of_our_business() -> Result<()> {
    let (one, client) = serving()?;
    let before = counter(&one.host, "skep_net_repairs_total")?;
    let looks = counter(&one.host, "skep_net_verifications_total")?;
    one.host
        .sh("nft add table inet firewall; ip link add dummy0 type bridge; ip link del dummy0")?
        .text()?;
    until("a look at the host", NOTICED, || {
        let now = counter(&one.host, "skep_net_verifications_total")?;
        if now > looks { Ok(()) } else { Err(anyhow!("still {now}")) }
    })?;
    serves(&one, &client)?;
    assert_eq!(counter(&one.host, "skep_net_repairs_total")?, before);
    one.host.sh("nft list table inet firewall")?.text()?;
    Ok(())
}

#[test]
fn names_are_answered_while_the_daemon_is_killed_and_started() -> Result<()> {
    let mut one = swarm()?;
    one.docker("network create -d overlay --attachable demo")?;
    one.docker("network create local")?;
    one.docker("service create -q --name web --network demo whoami")?;
    one.docker("run -d --name peer --network local busybox sleep 600")?;
    for (name, network, asked) in [("swarmed", "demo", "web"), ("plain", "local", "peer")] {
        one.docker(&format!(
            "run -d --name {name} --network {network} busybox sh -c 'n=0; while [ ! -e /stop ]; do n=$((n+1)); echo $n >/count; \
             nslookup -type=a {asked} >/tmp/said 2>&1 || {{ echo failed; cat /tmp/said; }}; done; echo asked $n'"
        ))?;
    }
    for _ in 0..5 {
        for name in ["swarmed", "plain"] {
            more("questions", || {
                one.docker(&format!("exec {name} cat /count"))?.parse().context("count")
            })?;
        }
        one = crash(one, |_| Ok(()))?;
    }
    for name in ["swarmed", "plain"] {
        // Detached: the container's end, which this asks for, would take an attached one along.
        one.docker(&format!("exec -d {name} touch /stop"))?;
        one.docker(&format!("wait {name}"))?;
        let said = one.docker(&format!("logs {name}"))?;
        let asked: u64 = said
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .trim()
            .parse()
            .with_context(|| said.clone())?;
        ensure!(said.starts_with("asked ") && asked >= 25, "{name}: {said}");
    }
    no_errors(&one.daemon)
}

#[test]
fn published_ports_serve_while_the_daemon_is_killed_and_started() -> Result<()> {
    let mut one = swarm()?;
    one.docker("service create -q --name web --replicas 2 -p 8000:8000 whoami")?;
    one.docker("run -d --name plain -p 9000:8000 whoami")?;
    let loads = [8000, 9000]
        .map(|port| Load::start(one.bed.host(&format!("client{port}"))?, &curl(&one.host, port)));
    let loads = loads.into_iter().collect::<Result<Vec<_>>>()?;
    for _ in 0..5 {
        for load in &loads {
            load.some()?;
        }
        one = crash(one, |_| Ok(()))?;
        one.converged("web", "2/2")?;
    }
    for load in loads {
        load.stop()?;
    }
    no_errors(&one.daemon)
}

#[test]
fn no_request_fails_while_a_service_grows_and_shrinks() -> Result<()> {
    let mut one = swarm()?;
    let client = one.outsider()?;
    one.docker("network create -d overlay demo")?;
    let before = kernel(&one.host)?;
    one.docker("service create -q --name web --network demo -p 8000:8000 whoami")?;
    one.docker("service create -q --name inner --network demo busybox sleep 600")?;
    let load = Load::start(client, &curl(&one.host, 8000))?;
    for _ in 0..20 {
        for replicas in [8, 1] {
            one.docker(&format!("service scale -d web={replicas}"))?;
            one.converged("web", &format!("{replicas}/{replicas}"))?;
            load.some()?;
        }
    }
    load.stop()?;
    one.docker("service rm web inner")?;
    until("nothing to be left behind", LIMIT, || {
        let after = kernel(&one.host)?;
        if after == before { Ok(()) } else { Err(anyhow!("before:\n{before}\nafter:\n{after}")) }
    })?;
    no_errors(&one.daemon)
}

/// Links, namespaces and rules of a host, without names that are chance.
fn kernel(host: &Host) -> Result<String> {
    let text = host
        .sh("ip -br link | awk '{print $1, $3}'; nft -s list ruleset; ls /run/docker/netns; \
             for n in /run/docker/netns/*; do echo $n; nsenter --net=$n ip -br addr | awk '{$2=\"\"; print}'; \
             nsenter --net=$n nft -s list ruleset; done; docker ps -aq | wc -l")?
        .text()?;
    // Whether a link is up shows some time later, and rules count. The mesh's cable has a random
    // Ethernet address at its port, and so may a bridge.
    let steady = |line: &&str| !line.starts_with("veth") && !line.starts_with("docker_gwbridge");
    let cables = text.lines().filter(|line| line.starts_with("veth")).count();
    Ok(format!("{}\n{cables} cables", text.lines().filter(steady).collect::<Vec<_>>().join("\n")))
}
