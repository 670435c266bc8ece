//! `make demo`: one host, a swarm of one, a web service of three replicas behind a published port, asked
//! from another host. Everything shown is what the commands really print.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use skep_testbed::{Bed, Host, Image, executable};

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
        "Two hosts on a switch, in network namespaces: node0 will run skep, client is somebody outside.",
    )?;
    let node = bed.host("node0")?;
    let client = bed.host("client")?;
    let _daemon = node.daemon(&[])?;

    say("node0 runs only `skep daemon`; the stock docker client talks to it.")?;
    show(
        &node,
        "docker version --format 'client {{.Client.Version}}, server {{.Server.Version}}, API {{.Server.APIVersion}}'",
    )?;
    node.import(&bed, &Image::whoami(&executable("whoami")?))?;
    show(&node, "docker images")?;

    say("A swarm of one, and a web service with three replicas on port 8080 of every host.")?;
    show(&node, "docker swarm init --advertise-addr eth0")?;
    show(
        &node,
        "docker service create --quiet --name web --replicas 3 --publish 8080:8000 whoami",
    )?;
    show(&node, "docker service ls")?;
    show(&node, "docker service ps web")?;

    say(
        "From the client: the answers rotate over the three containers, and each saw the client's address.",
    )?;
    let url = format!("http://{}:8080/full", node.address());
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(show(&client, &format!("curl -s {url}"))?);
    }
    ensure!(seen[..3] == seen[3..], "the answers did not rotate");
    let address = client.address().to_string();
    ensure!(
        seen.iter().all(|answer| answer.ends_with(&address)),
        "a container did not see {address}"
    );

    if std::env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0") {
        return keep(&node, &client);
    }
    say("Removing the service leaves nothing running.")?;
    show(&node, "docker service rm web")?;
    show(&node, "docker swarm leave --force")?;
    say("Done: the demo worked, and its hosts are gone. `make demo KEEP=1` leaves them up.")
}

fn keep(node: &Host, client: &Host) -> Result<()> {
    say(&format!(
        "The hosts stay up until you press Ctrl-C. A shell on each, from another terminal:\n\
         \x20 nsenter -t {} -a sh      # node0: try docker ps\n\
         \x20 nsenter -t {} -a sh      # client: try curl http://{}:8080/",
        node.pid(),
        client.pid(),
        node.address()
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
    let finished = host.sh(line)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}$ {line}\n{}", host.name(), finished.stdout.trim_end()).context("print")?;
    drop(out);
    finished.text()
}
