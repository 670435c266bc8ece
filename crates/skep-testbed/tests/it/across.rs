//! What the network does between hosts: overlays, names, the routing mesh, rollouts.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Host, Image, executable, until};

use crate::fixture::LIMIT;
use crate::several::Several;

/// Three hosts in a swarm that have the web service's image.
pub fn swarm() -> Result<Several> {
    let three = Several::swarm(3)?;
    for host in &three.hosts {
        host.import(&three.bed, &Image::whoami(&executable("whoami")?))?;
    }
    Ok(three)
}

/// Different answers to so many questions asked one after the other.
fn answers(client: &Host, url: &str, count: usize) -> Result<BTreeSet<String>> {
    (0..count).map(|_| client.sh(&format!("curl -sSf -m 5 {url}"))?.text()).collect()
}

/// Waits until every host's port gives this many different answers in as many questions.
pub fn serves(three: &Several, client: &Host, port: u16, tasks: usize) -> Result<()> {
    for host in &three.hosts {
        until("all tasks to answer", LIMIT, || {
            let seen = answers(client, &format!("http://{}:{port}/", host.address()), tasks)?;
            if seen.len() == tasks { Ok(()) } else { Err(anyhow!("{}: {seen:?}", host.address())) }
        })?;
    }
    Ok(())
}

/// Waits until no request to port 8000 of these hosts meets a task that is dead.
pub fn only_living_answer(hosts: &[Host], client: &Host) -> Result<()> {
    for host in hosts {
        until("only living tasks to answer", Duration::from_secs(10), || {
            for _ in 0..6 {
                client.sh(&format!("curl -sSf -m 1 http://{}:8000/", host.address()))?.text()?;
            }
            Ok::<_, anyhow::Error>(())
        })?;
    }
    Ok(())
}

/// A loop of requests to port 8000 of some hosts in turn, from outside.
struct Load<'a> {
    client: &'a Host,
    loop_: Child,
}

impl<'a> Load<'a> {
    fn start(client: &'a Host, hosts: &[Host]) -> Result<Self> {
        let urls: Vec<String> =
            hosts.iter().map(|host| format!("http://{}:8000/", host.address())).collect();
        // A lost SYN is sent again after one second: that would be too late.
        let script = format!(
            "rm -f /run/stop; n=0; fails=0; while [ ! -e /run/stop ]; do for url in {}; do n=$((n+1)); \
             echo $n >/run/count; said=$(curl -sSf -o /dev/null --connect-timeout 0.95 -m 5 $url 2>&1) || \
             {{ fails=$((fails+1)); echo \"$(date +%T.%N) $url: $said\"; }}; done; done; echo $fails failed of $n",
            urls.join(" ")
        );
        let loop_ = client.command("sh", &["-c", &script]).stdout(Stdio::piped()).spawn()?;
        Ok(Self { client, loop_ })
    }

    /// Waits for some more requests.
    fn some(&self) -> Result<()> {
        let count = || -> Result<u64> {
            // Not there at the beginning, and empty for a moment each time.
            Ok(self.client.sh("cat /run/count || true")?.text()?.parse().unwrap_or_default())
        };
        let first = count()?;
        until("more requests", LIMIT, || {
            let now = count()?;
            if now >= first + 9 { Ok(()) } else { Err(anyhow!("{first} before, {now} now")) }
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

#[test]
fn a_published_port_answers_on_every_host_and_shows_the_client() -> Result<()> {
    let mut three = swarm()?;
    let client = three.bed.host("client")?;
    three.docker(
        0,
        "service create -q --name web --replicas 3 -p 8000:8000 -p 8000:8000/udp whoami",
    )?;
    for host in 0..3 {
        three.runs(host, "web", 1)?;
    }
    serves(&three, &client, 8000, 3)?;
    for host in &three.hosts {
        let address = host.address();
        for _ in 0..3 {
            let seen =
                client.sh(&format!("curl -sSf -m 5 http://{address}:8000/client"))?.text()?;
            assert_eq!(seen, client.address().to_string());
            let udp = client.sh(&format!("echo hi | socat -t 2 - UDP:{address}:8000"))?.text()?;
            ensure!(udp.ends_with(&format!("and you are {}", client.address())), "{udp}");
        }
    }
    // One task: two hosts have none and answer all the same.
    three.docker(0, "service scale -d web=1")?;
    serves(&three, &client, 8000, 1)?;
    one_port_many_entrances(&three, &client)?;
    three.docker(0, "service rm web")?;
    for host in &three.hosts {
        until("the port to be closed", LIMIT, || {
            let asked = client.sh(&format!("curl -s -m 2 http://{}:8000/", host.address()))?;
            if asked.code == Some(7) { Ok(()) } else { Err(anyhow!("{asked:?}")) }
        })?;
    }
    Ok(())
}

/// A client that has connections through all hosts at once from one and the same port, to the only task.
fn one_port_many_entrances(three: &Several, client: &Host) -> Result<()> {
    let hosts: Vec<String> = three.hosts.iter().map(|host| host.address().to_string()).collect();
    let hosts = hosts.join(" ");
    let said = client.sh(&format!(
        "cd $(mktemp -d); \
         for host in {hosts}; do mkfifo in.$host; \
             socat -t 5 - TCP:$host:8000,bind=:40000,reuseaddr,connect-timeout=5 <in.$host >out.$host & \
         done; \
         exec 4>in.10.77.0.1 5>in.10.77.0.2 6>in.10.77.0.3; \
         for n in $(seq 100); do \
             [ $(ss -Htn state established sport = :40000 | wc -l) = 3 ] && break; sleep 0.05; \
         done; \
         for fd in 6 5 4; do printf 'GET /client HTTP/1.0\\r\\n\\r\\n' >&$fd; done; \
         exec 4>&- 5>&- 6>&-; wait; \
         for host in {hosts}; do echo $host $(tail -n 1 out.$host); done"
    ))?;
    let own = client.address();
    let expected: Vec<String> = hosts.split(' ').map(|host| format!("{host} {own}")).collect();
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), expected, "{}", said.stderr);
    // Twice, for each entrance to come after each other one.
    for host in three.hosts.iter().chain(&three.hosts) {
        let host = host.address();
        let udp =
            client.sh(&format!("echo hi | socat -t 2 - UDP:{host}:8000,bind=:40001"))?.text()?;
        ensure!(udp.ends_with(&format!("and you are {own}")), "through {host}: {udp:?}");
    }
    Ok(())
}

#[test]
fn containers_find_each_other_across_hosts() -> Result<()> {
    let three = swarm()?;
    three.docker(0, "network create -d overlay --attachable demo")?;
    three.docker(0, "service create -q --name web --network demo --mode global whoami")?;
    for host in 0..3 {
        three.docker(host, &format!("run -d --name box{host} --network demo busybox sleep 600"))?;
    }
    for host in 0..3 {
        for other in 0..3 {
            three.prints(
                host,
                &format!(
                    "docker exec box{host} ping -c1 -W2 box{other} | grep -c '1 packets received'"
                ),
                "1",
            )?;
        }
        until("three tasks behind the name", LIMIT, || {
            let found = three.docker(
                host,
                &format!("exec box{host} nslookup -type=a tasks.web | grep -c '^Address: *10.0.1'"),
            )?;
            if found == "3" { Ok(()) } else { Err(anyhow!("{found}")) }
        })?;
        let seen: BTreeSet<String> = (0..3)
            .map(|_| three.docker(host, &format!("exec box{host} wget -qO- http://web:8000/")))
            .collect::<Result<_>>()?;
        ensure!(seen.len() == 3, "host {host}: {seen:?}");
        // The address of who asks survives the virtual address.
        let own = three.docker(host, &format!("exec box{host} hostname -i"))?;
        for _ in 0..3 {
            let said =
                three.docker(host, &format!("exec box{host} wget -qO- http://web:8000/client"))?;
            ensure!(own.split_whitespace().any(|a| a == said), "{said} is none of {own}");
        }
    }
    // A host without anything on the network has nothing of it.
    three.docker(2, "rm -f box2")?;
    three.docker(0, "service rm web")?;
    three.prints(2, "ls /run/docker/netns | grep ^lb_ | wc -l", "0")?;
    Ok(())
}

#[test]
fn rollouts_lose_no_request() -> Result<()> {
    let mut three = swarm()?;
    let client = three.bed.host("client")?;
    three.docker(
        0,
        "service create -q --name web --replicas 4 --update-delay 0s --update-parallelism 1 -p 8000:8000 whoami",
    )?;
    serves(&three, &client, 8000, 4)?;
    let load = Load::start(&client, &three.hosts)?;
    for round in 0..5 {
        let order = if round % 2 == 0 { "stop-first" } else { "start-first" };
        three.docker(
            0,
            &format!("service update -q --update-order {order} --env-add ROUND={round} web"),
        )?;
    }
    load.stop()
}

#[test]
fn rollouts_lose_no_request_of_connections_that_stay() -> Result<()> {
    let mut three = swarm()?;
    let client = three.bed.host("client")?;
    three.docker(
        0,
        "service create -q --name web --replicas 4 --update-delay 0s --update-parallelism 1 -p 8000:8000 whoami",
    )?;
    serves(&three, &client, 8000, 4)?;
    // Each keeps four connections busy for as long as they live.
    let load: Vec<Child> = three
        .hosts
        .iter()
        .map(|host| {
            let url = format!("http://{}:8000/slow?20", host.address());
            let line = format!("exec wrk -t 1 -c 4 -d 600s --timeout 10s '{url}'");
            Ok(client.command("sh", &["-c", &line]).stdout(Stdio::piped()).spawn()?)
        })
        .collect::<Result<_>>()?;
    for round in 0..20 {
        let order = if round % 2 == 0 { "stop-first" } else { "start-first" };
        three.docker(
            0,
            &format!("service update -q --update-order {order} --env-add ROUND={round} web"),
        )?;
    }
    // The only ones of this host.
    client.sh("pkill -INT wrk")?.text()?;
    for wrk in load {
        let said = String::from_utf8(wrk.wait_with_output()?.stdout)?;
        ensure!(said.contains(" requests in "), "{said}");
        ensure!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    }
    Ok(())
}

/// HAProxy as the fourth report has it, in front of every host's port 8000.
fn proxy(three: &Several) -> String {
    let mut text = "defaults\n mode http\n option dontlognull\n option http-server-close\n \
         option forwardfor except 127.0.0.0/8\n option redispatch\n retries 3\n \
         timeout http-request 10s\n timeout queue 1m\n timeout connect 10s\n timeout client 1m\n \
         timeout server 1m\n timeout http-keep-alive 10s\n timeout check 10s\n maxconn 3000\n\
         frontend http_front\n bind *:80\n stats uri /haproxy?stats\n default_backend http_back\n\
         backend http_back\n balance roundrobin\n"
        .to_owned();
    for host in &three.hosts {
        text += &format!(" server {} {}:8000 check\n", host.name(), host.address());
    }
    text
}

#[test]
fn a_proxy_in_front_loses_nothing_with_a_host() -> Result<()> {
    let mut three = swarm()?;
    let front = three.bed.host("front")?;
    let client = three.bed.host("client")?;
    three.docker(0, "service create -q --name web --replicas 3 -p 8000:8000 whoami")?;
    serves(&three, &client, 8000, 3)?;
    let settings = front.folder().join("haproxy.cfg");
    std::fs::write(&settings, proxy(&three))?;
    let settings = settings.to_str().context("a path in UTF-8")?;
    let _proxy = front.command("haproxy", &["-db", "-f", settings]).spawn()?;
    let url = format!("http://{}/", front.address());
    let up = |host: &Host| -> Result<bool> {
        let stats = client.sh(&format!("curl -sSf -m 5 '{url}haproxy?stats;csv'"))?.text()?;
        let begins = format!("http_back,{},", host.name());
        let line = stats.lines().find(|l| l.starts_with(&begins)).context("the server's line")?;
        // `UP 1/3` is one that may soon be down, and still gets requests.
        Ok(line.split(',').any(|field| field.starts_with("UP")))
    };
    until("all hosts and tasks behind the proxy", LIMIT, || {
        let seen = answers(&client, &url, 9)?;
        ensure!(seen.len() == 3, "{seen:?}");
        for host in &three.hosts {
            ensure!(up(host)?, "{} is down", host.name());
        }
        Ok(())
    })?;
    three.crash(2)?;
    three.plug(2, false)?;
    until("the check to fail", LIMIT, || match up(&three.hosts[2])? {
        true => Err(anyhow!("it is up")),
        false => Ok(()),
    })?;
    answers(&client, &url, 300)?;
    three.converged("web", "3/3")
}

#[test]
fn a_host_that_dies_leaves_rotation_everywhere() -> Result<()> {
    let mut three = swarm()?;
    let client = three.bed.host("client")?;
    three.docker(0, "service create -q --name web --replicas 3 -p 8000:8000 whoami")?;
    serves(&three, &client, 8000, 3)?;
    three.crash(2)?;
    only_living_answer(&three.hosts[..2], &client)?;
    three.converged("web", "3/3")
}

#[test]
fn a_daemon_that_is_killed_and_started_costs_no_request() -> Result<()> {
    let mut three = swarm()?;
    let client = three.bed.host("client")?;
    // All tasks on the host whose daemon is killed.
    three.docker(
        0,
        "service create -q --name web --replicas 2 --constraint node.hostname==node2 -p 8000:8000 whoami",
    )?;
    serves(&three, &client, 8000, 2)?;
    let load = Load::start(&client, &three.hosts)?;
    for _ in 0..3 {
        load.some()?;
        three.kill_daemon(2)?;
        three.start_daemon(2)?;
        three.node_is(2, "Ready")?;
    }
    load.some()?;
    load.stop().or_else(|error| Err(error.context(three.log(1)?)))
}

#[test]
fn a_host_whose_daemon_stays_away_goes_on() -> Result<()> {
    let mut three = swarm()?;
    let client = three.bed.host("client")?;
    three.docker(0, "network create -d overlay --attachable demo")?;
    three.docker(
        0,
        "service create -q --name web --mode global --network demo -p 8000:8000 whoami",
    )?;
    serves(&three, &client, 8000, 3)?;
    three.docker(2, "run -d --name box --network demo busybox sleep 600")?;
    // By its process, as the way by name needs the daemon.
    let process = three.docker(2, "inspect -f '{{.State.Pid}}' box")?;
    let task = three.docker(0, "ps -q --filter name=web")?;
    let address = three.docker(
        0,
        &format!("inspect -f '{{{{.NetworkSettings.Networks.demo.IPAddress}}}}' {task}"),
    )?;
    let host = three.hosts[2].address();
    let asks = format!("nsenter -n -t {process} curl -sS -m 5 http://{address}:8000/");
    three.hosts[2].sh(&asks)?.text()?;
    three.kill_daemon(2)?;
    three.node_is(2, "Down")?;
    // Entered there, as the tables were left; and from a container there.
    let seen = answers(&client, &format!("http://{host}:8000/"), 9)?;
    ensure!(seen.len() == 3, "{seen:?}");
    three.hosts[2].sh(&asks)?.text()?;
    // Nothing new leads there.
    for entered in &three.hosts[..2] {
        let seen = answers(&client, &format!("http://{}:8000/", entered.address()), 6)?;
        ensure!(seen.len() == 2, "{seen:?}");
    }
    three.start_daemon(2)?;
    three.node_is(2, "Ready")?;
    serves(&three, &client, 8000, 3)
}
