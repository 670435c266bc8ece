//! One host with a daemon and images, and words to ask it things.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use skep_testbed::{Bed, Daemon, Host, Image, executable, until};

/// Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(30);

pub struct One {
    pub daemon: Daemon,
    pub host: Host,
    pub bed: Bed,
}

impl One {
    /// A host whose daemon runs and has the busybox image.
    pub fn start() -> Result<Self> {
        let mut bed = Bed::new(&executable("skep")?)?;
        let host = bed.host("node0")?;
        let daemon = host.daemon(&[])?;
        host.import(&bed, &Image::busybox())?;
        Ok(Self { daemon, host, bed })
    }

    /// The same as the only node of a swarm, with the whoami image too.
    pub fn swarm() -> Result<Self> {
        let one = Self::start()?;
        one.host.import(&one.bed, &Image::whoami(&executable("whoami")?))?;
        one.host.docker(&["swarm", "init", "--advertise-addr", "eth0"])?;
        Ok(one)
    }

    pub fn docker(&self, line: &str) -> Result<String> {
        self.host.sh(&format!("docker {line}"))?.text()
    }

    /// What a failing command says on standard error. A command that succeeds is an error here.
    pub fn refused(&self, line: &str) -> Result<String> {
        let finished = self.host.sh(&format!("docker {line}"))?;
        ensure!(!finished.success(), "`docker {line}` succeeded: {}", finished.stdout);
        Ok(finished.stderr)
    }

    /// Waits until the replicas column of `docker service ls` says what it should.
    pub fn converged(&self, service: &str, replicas: &str) -> Result<()> {
        until(&format!("{service} to have {replicas}"), LIMIT, || {
            let found = self.docker(&format!(
                "service ls --filter name={service} --format '{{{{.Replicas}}}}'"
            ))?;
            if found == replicas { Ok(()) } else { Err(anyhow!("it has {found:?}")) }
        })
    }

    /// Waits until a shell line on the host prints exactly this.
    pub fn prints(&self, line: &str, expected: &str) -> Result<()> {
        until(line, LIMIT, || {
            let found = self.host.sh(line)?;
            if found.success() && found.stdout.trim_end() == expected {
                Ok(())
            } else {
                Err(anyhow!("{:?}: {:?} {:?}", found.code, found.stdout, found.stderr))
            }
        })
    }

    /// A second host on the same switch, without a daemon: a client from outside.
    pub fn outsider(&mut self) -> Result<Host> {
        self.bed.host("client")
    }
}
