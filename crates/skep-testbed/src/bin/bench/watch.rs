//! When a host's load balancer changes, told by the kernel: nothing polls, and so nothing takes the
//! processors away from what is measured.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use skep_testbed::Host;

const LIMIT: Duration = Duration::from_secs(60);
/// The port's chain.
const CHAIN: &str = "rule ip skep tcp-8080 ";
/// What ends a transaction.
const DONE: &str = "# new generation";
/// A table that is made and removed until the listener is heard.
const PROBE: &str = "add rule ip probe probe ";
/// Where connections are led: in the host's own namespace to its own tasks and to the mesh, there to
/// the others.
const SPACES: [&str; 2] = ["--net=/proc/self/ns/net", "--net=/run/docker/netns/ingress_sbox"];

/// Listens to what one host does with port 8080.
pub struct Watch {
    monitors: Vec<Child>,
    lines: Receiver<Line>,
    /// The chain's rule in each of the namespaces; empty where it has none.
    rules: [String; 2],
}

/// A line of a listener: of which namespace, and when.
type Line = (usize, SystemTime, String);

impl Watch {
    /// Listens from before the return on.
    pub fn start(host: &Host) -> Result<Self> {
        let (said, lines) = channel();
        let mut watch = Self { monitors: Vec::new(), lines, rules: Default::default() };
        for (index, space) in SPACES.into_iter().enumerate() {
            watch.listen(host, index, space, said.clone())?;
            let list =
                format!("nsenter {space} nft list chain ip skep tcp-8080 2>/dev/null || true");
            watch.rules[index] = host.sh(&list)?.text()?;
        }
        Ok(watch)
    }

    fn listen(&mut self, host: &Host, index: usize, space: &str, said: Sender<Line>) -> Result<()> {
        let mut monitor = host
            .command("nsenter", &[space, "nft", "monitor"])
            .stdout(Stdio::piped())
            .spawn()
            .context("listen to a load balancer")?;
        let output = BufReader::new(monitor.stdout.take().context("the listener's output")?);
        self.monitors.push(monitor);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if said.send((index, SystemTime::now(), line)).is_err() {
                    return;
                }
            }
        });
        for _ in 0..100 {
            host.sh(&format!(
                "nsenter {space} nft 'add table ip probe; add chain ip probe probe; {PROBE} accept; \
                 delete table ip probe'"
            ))?
            .text()?;
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok((heard, ..)) if heard == index => return Ok(()),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        bail!("cannot listen to the load balancer of {}", host.name())
    }

    /// When the port led to so many tasks.
    pub fn has(&mut self, tasks: usize) -> Result<SystemTime> {
        loop {
            let (index, at, line) = self
                .lines
                .recv_timeout(LIMIT)
                .with_context(|| format!("a load balancer did not have {tasks} tasks in time"))?;
            if line.starts_with(DONE) {
                if self.tasks() == Some(tasks) {
                    return Ok(at);
                }
            } else if let Some((verb, rule)) = line.split_once(CHAIN) {
                self.rules[index] = if verb == "add " { rule.to_owned() } else { String::new() };
            }
        }
    }

    /// To how many tasks the port leads; `None` while the two namespaces do not agree.
    fn tasks(&self) -> Option<usize> {
        let [host, mesh] = &self.rules;
        let others = mesh.matches("10.0.0.").count();
        let to_mesh = host.matches("172.18.0.2 . ").count();
        match host.matches("172.18.0.").count() {
            // All go to the mesh, by a rule for all such ports.
            0 => Some(others),
            all if to_mesh == 0 || to_mesh == others => Some(all),
            _ => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for monitor in &mut self.monitors {
            // It may have ended with its host.
            if let Err(error) = monitor.kill().and_then(|()| monitor.wait().map(drop)) {
                eprintln!("stop listening to a load balancer: {error}");
            }
        }
    }
}
