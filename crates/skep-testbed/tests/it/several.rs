//! Several hosts on one switch, and words to ask them things.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Bed, Daemon, Host, Image, executable, until};

use crate::fixture::LIMIT;

/// Each daemon serves its metrics on its own host.
const METRICS: [&str; 2] = ["--metrics-addr", "127.0.0.1:9323"];

/// Hosts `node0`, `node1` and so on with the addresses 10.77.0.1, 10.77.0.2 and so on. The first one is
/// the manager where there is a swarm.
pub struct Several {
    daemons: Vec<Option<Daemon>>,
    pub hosts: Vec<Host>,
    pub bed: Bed,
}

impl Several {
    /// Hosts whose daemons run and have the busybox image.
    pub fn start(count: usize) -> Result<Self> {
        Self::start_in(Bed::new(&executable("skep")?)?, &vec![0; count])
    }

    /// The same, each in the subnet that is given for it.
    pub fn start_in(bed: Bed, subnets: &[u8]) -> Result<Self> {
        let mut several = Self { daemons: Vec::new(), hosts: Vec::new(), bed };
        for (number, subnet) in subnets.iter().enumerate() {
            let host = several.bed.host_in(*subnet, &format!("node{number}"))?;
            several.daemons.push(Some(host.daemon(&METRICS)?));
            host.import(&several.bed, &Image::busybox())?;
            several.hosts.push(host);
        }
        Ok(several)
    }

    /// The same as a swarm: all but the first have joined as workers.
    pub fn swarm(count: usize) -> Result<Self> {
        let several = Self::start(count)?;
        several.join()?;
        Ok(several)
    }

    /// Makes a swarm on the first host, which all others join.
    pub fn join(&self) -> Result<()> {
        self.docker(0, "swarm init --advertise-addr eth0")?;
        let token = self.token()?;
        for number in 1..self.hosts.len() {
            self.docker(number, &format!("swarm join --token {token} 10.77.0.1:2377"))?;
        }
        Ok(())
    }

    pub fn token(&self) -> Result<String> {
        self.docker(0, "swarm join-token -q worker")
    }

    /// The `docker` client on a host.
    pub fn docker(&self, host: usize, line: &str) -> Result<String> {
        self.hosts[host].sh(&format!("docker {line}"))?.text()
    }

    /// What a failing command says on standard error, within `limit`. A command that succeeds is an
    /// error here.
    pub fn refused(&self, host: usize, line: &str, limit: Duration) -> Result<String> {
        let start = Instant::now();
        let finished = self.hosts[host].sh(&format!("docker {line}"))?;
        ensure!(!finished.success(), "`docker {line}` succeeded: {}", finished.stdout);
        let took = start.elapsed();
        ensure!(took < limit, "`docker {line}` took {took:?} to say {}", finished.stderr);
        Ok(finished.stderr)
    }

    /// Waits until a shell line on a host prints exactly this.
    pub fn prints(&self, host: usize, line: &str, expected: &str) -> Result<()> {
        until(line, LIMIT, || {
            let found = self.hosts[host].sh(line)?;
            if found.success() && found.stdout.trim_end() == expected {
                Ok(())
            } else {
                Err(anyhow!("{:?}: {:?} {:?}", found.code, found.stdout, found.stderr))
            }
        })
    }

    /// Waits until `docker service ls` on the manager shows these replicas.
    pub fn converged(&self, service: &str, replicas: &str) -> Result<()> {
        let line = format!("docker service ls -f name={service} --format '{{{{.Replicas}}}}'");
        self.prints(0, &line, replicas).or_else(|error| {
            let tasks = self.docker(0, &format!("service ps --no-trunc {service}"))?;
            Err(error.context(tasks))
        })
    }

    /// Waits until `docker node ls` on the manager shows a node in this state.
    pub fn node_is(&self, host: usize, state: &str) -> Result<()> {
        self.node_is_named(&format!("node{host}"), state)
    }

    /// The same for a host of another name.
    pub fn node_is_named(&self, name: &str, state: &str) -> Result<()> {
        let line = format!("docker node ls -f name={name} --format '{{{{.Status}}}}'");
        self.prints(0, &line, state)
    }

    /// Waits until so many containers of a service run on a host, by the host's own word.
    pub fn runs(&self, host: usize, service: &str, count: usize) -> Result<()> {
        let line =
            format!("docker ps -q --filter label=com.docker.swarm.service.name={service} | wc -l");
        self.prints(host, &line, &count.to_string())
    }

    /// Pulls a host's cable, or puts it back.
    pub fn plug(&self, host: usize, up: bool) -> Result<()> {
        self.bed.plug(u8::try_from(host + 1)?, up)
    }

    /// The sum of a host's metrics that begin like this.
    pub fn metric(&self, host: usize, beginning: &str) -> Result<u64> {
        let text = self.hosts[host].sh("curl -sSf -m 5 http://127.0.0.1:9323/metrics")?.text()?;
        let values = text.lines().filter(|line| line.starts_with(beginning));
        values.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<u64>()?)).sum()
    }

    /// What one host sends to another is lost from now on, or no more; `None` stands for all.
    pub fn lose(&self, from: Option<usize>, to: Option<usize>, lost: bool) -> Result<()> {
        let port = |host: Option<usize>| host.map(|host| u8::try_from(host + 1)).transpose();
        self.bed.lose(port(from)?, port(to)?, lost)
    }

    /// Memory of a host's daemon, KiB.
    pub fn resident(&self, host: usize) -> Result<u64> {
        let daemon = self.daemons[host].as_ref().context("a daemon that runs")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|l| l.split_whitespace().next()).context("a size")?.parse()?)
    }

    /// What a host's daemon logged.
    pub fn log(&self, host: usize) -> Result<String> {
        self.daemons[host].as_ref().context("a daemon that runs")?.log()
    }

    /// Kills a host's daemon with SIGKILL; its containers go on.
    pub fn kill_daemon(&mut self, host: usize) -> Result<()> {
        self.daemons[host].take().context("a daemon that runs")?.kill()
    }

    pub fn start_daemon(&mut self, host: usize) -> Result<()> {
        self.daemons[host] = Some(self.hosts[host].daemon(&METRICS)?);
        Ok(())
    }

    /// Kills everything that runs on a host at once.
    pub fn crash(&mut self, host: usize) -> Result<()> {
        // In the host's PID namespace this spares the shell and the namespace's first process.
        self.hosts[host].sh("kill -9 -1")?;
        self.daemons[host] = None;
        Ok(())
    }
}
