//! `make demo`: three hosts, one swarm, a web service of three replicas behind a published port, asked
//! from another host through each of them. Everything shown is what the commands really print.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use skep_testbed::{Bed, Host, Image, executable, until};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    say(
        "Four hosts on a switch, in network namespaces: three will run skep, client is somebody outside.",
    )?;
    let nodes: Vec<Host> =
        (0..3).map(|number| bed.host(&format!("node{number}"))).collect::<Result<_>>()?;
    let client = bed.host("client")?;
    let _daemons = nodes.iter().map(|node| node.daemon(&[])).collect::<Result<Vec<_>>>()?;
    let [manager, worker, _] = &nodes[..] else { bail!("there are not three nodes") };

    say("Each node runs only `skep daemon`; the stock docker client talks to it.")?;
    show(
        manager,
        "docker version --format 'client {{.Client.Version}}, server {{.Server.Version}}, API {{.Server.APIVersion}}'",
    )?;
    let image = Image::whoami(&executable("whoami")?);
    for node in &nodes {
        node.import(&bed, &image)?;
    }
    show(manager, "docker images")?;

    say("A swarm of three.")?;
    show(manager, "docker swarm init --advertise-addr eth0")?;
    let token = manager.docker(&["swarm", "join-token", "--quiet", "worker"])?;
    for node in &nodes[1..] {
        show(node, &format!("docker swarm join --token {token} {}:2377", manager.address()))?;
    }
    show(manager, "docker node ls")?;

    say("A web service with three replicas, published as port 8080 of every node.")?;
    show(
        manager,
        "docker service create --quiet --name web --replicas 3 --publish 8080:8000 whoami",
    )?;
    show(manager, "docker service ps web")?;

    say(
        "From the client: every node answers with all three containers in turn, wherever they run, and each \
         saw the client's address.",
    )?;
    let address = client.address().to_string();
    for node in &nodes {
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            seen.insert(show(&client, &format!("curl -s http://{}:8080/full", node.address()))?);
        }
        ensure!(seen.len() == 3, "{} did not reach all three", node.name());
        ensure!(
            seen.iter().all(|answer| answer.ends_with(&address)),
            "a container did not see {address}"
        );
    }

    say(
        "One node dies, with everything on it. The others go on, and its task comes up elsewhere.",
    )?;
    let dead = &nodes[2];
    dead.sh("kill -9 -1")?;
    let begin = Instant::now();
    until("the dead node's task to be out of rotation", Duration::from_secs(20), || {
        (0..3).try_for_each(|_| {
            let url = format!("curl -sf -m 1 -o /dev/null http://{}:8080/", worker.address());
            client.sh(&url)?.text().map(drop)
        })
    })?;
    say(&format!("After {:.1} s no request meets it any more.", begin.elapsed().as_secs_f64()))?;
    until("three replicas on two nodes", Duration::from_secs(30), || {
        // In this order: the task of a node counts until the node is known to be down.
        let down = manager.docker(&["node", "ls", "--format", "{{.Status}}"])?;
        ensure!(down.contains("Down"), "{down}");
        let found = manager.docker(&["service", "ls", "--format", "{{.Replicas}}"])?;
        ensure!(found == "3/3", "{found}");
        Ok(())
    })?;
    say(&format!("After {:.1} s three replicas run again.", begin.elapsed().as_secs_f64()))?;
    show(manager, "docker node ls")?;
    show(manager, "docker service ps web --filter desired-state=running")?;

    say("How a request finds its way through node1, read from its kernel.")?;
    show(worker, "skep net trace 8080")?;

    if std::env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0") {
        return keep(&nodes, dead, &client);
    }
    say("Done: the demo worked, and its hosts are gone. `make demo KEEP=1` leaves them up.")
}

/// Leaves the hosts up; on the one that is `dead` nothing runs any more.
fn keep(nodes: &[Host], dead: &Host, client: &Host) -> Result<()> {
    let shells: String = nodes
        .iter()
        .map(|node| {
            let hint = match node.name() == dead.name() {
                true => "the one that died; its daemon is started again as below",
                false => "try docker ps",
            };
            format!("\x20 nsenter -t {} -a sh      # {}: {hint}\n", node.pid(), node.name())
        })
        .collect();
    let skep = executable("skep")?;
    let daemons: String = nodes
        .iter()
        .map(|node| {
            format!(
                "{0}, {1}. Ended, it is started again with\n\
                 \x20 nsenter -t {2} -a {3} >>{1} 2>&1 &\n",
                node.name(),
                node.log_path().display(),
                node.pid(),
                node.daemon_line(&skep)
            )
        })
        .collect();
    say(&format!(
        "The hosts stay up until you press Ctrl-C. A shell on each, from another terminal:\n\
         {shells}\x20 nsenter -t {} -a sh      # client: try curl http://{}:8080/\n\
         The daemons' logs:\n{daemons}",
        client.pid(),
        nodes[0].address()
    ))?;
    let signals = nix::sys::signal::SigSet::from_iter([
        nix::sys::signal::Signal::SIGINT,
        nix::sys::signal::Signal::SIGTERM,
    ]);
    signals.thread_block().context("wait for Ctrl-C")?;
    signals.wait().context("wait for Ctrl-C")?;
    say("The hosts are gone.")
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n# {text}").context("print")?;
    out.flush().context("print")
}

/// Shows a command as typed on the host, with its output, which is also returned.
fn show(host: &Host, line: &str) -> Result<String> {
    let skep = executable("skep")?;
    let folder = skep.parent().context("skep is in no folder")?;
    let finished = host.sh(&format!("PATH=$PATH:{}; {line}", folder.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}$ {line}\n{}", host.name(), finished.stdout.trim_end()).context("print")?;
    drop(out);
    finished.text()
}
