//! When a host's load balancer changes, told by the kernel: nothing polls, and so nothing takes the
//! processors away from what is measured.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use skep_testbed::Host;

const LIMIT: Duration = Duration::from_secs(60);
/// How a change of the port's chain is shown.
const CHAIN: &str = "add rule ip skep tcp-8080 ";
/// A table that is made and removed until the listener is heard.
const PROBE: &str = "add rule ip probe probe ";

/// Listens to the routing mesh of one host, port 8080.
pub struct Watch {
    monitor: Child,
    lines: Receiver<(SystemTime, String)>,
}

impl Watch {
    /// Listens from before the return on.
    pub fn start(host: &Host) -> Result<Self> {
        let space = "--net=/run/docker/netns/ingress_sbox";
        let mut monitor = host
            .command("nsenter", &[space, "nft", "monitor", "rules"])
            .stdout(Stdio::piped())
            .spawn()
            .context("listen to a load balancer")?;
        let output = BufReader::new(monitor.stdout.take().context("the listener's output")?);
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if said.send((SystemTime::now(), line)).is_err() {
                    return;
                }
            }
        });
        let watch = Self { monitor, lines };
        for _ in 0..100 {
            host.sh(&format!(
                "nsenter {space} nft 'add table ip probe; add chain ip probe probe; {PROBE} accept; \
                 delete table ip probe'"
            ))?
            .text()?;
            match watch.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(_) => return Ok(watch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        bail!("cannot listen to the load balancer of {}", host.name())
    }

    /// When the port's chain had so many tasks.
    pub fn has(&self, tasks: usize) -> Result<SystemTime> {
        loop {
            let (at, line) = self
                .lines
                .recv_timeout(LIMIT)
                .with_context(|| format!("a load balancer did not have {tasks} tasks in time"))?;
            if line.starts_with(CHAIN) && line.matches("10.0.0.").count() == tasks {
                return Ok(at);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended with its host.
        if let Err(error) = self.monitor.kill().and_then(|()| self.monitor.wait().map(drop)) {
            eprintln!("stop listening to a load balancer: {error}");
        }
    }
}
