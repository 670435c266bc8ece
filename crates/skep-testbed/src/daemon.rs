use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Host, until};

/// Time for a daemon to answer, or to end.
const LIMIT: Duration = Duration::from_secs(20);

/// A running `skep daemon`. Dropping it does not stop it: it ends with its host.
pub struct Daemon {
    child: Child,
    pid: Pid,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(
        host: &Host,
        skep: &Path,
        cgroup_parent: &str,
        more: &[&str],
    ) -> Result<Self> {
        let log = host.log_path();
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut command: Command = host.command(skep, &arguments(cgroup_parent));
        let child = command
            .args(more)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            .spawn()
            .context("start skep daemon")?;
        let mut daemon = Self { child, pid: Pid::from_raw(0), log };
        until("the daemon to answer", LIMIT, || {
            if let Some(status) = daemon.child.try_wait().map_err(|error| anyhow!("{error}"))? {
                return Err(anyhow!("the daemon ended with {status}: {}", daemon.log_tail()));
            }
            host.docker(&["version", "--format", "{{.Server.Version}}"])
        })?;
        daemon.pid = outer_pid(&daemon.child)?;
        Ok(daemon)
    }

    /// Process id as the machine sees it.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// SIGTERM, and wait for the end.
    pub fn stop(mut self) -> Result<()> {
        kill(self.pid, Signal::SIGTERM).context("send SIGTERM to the daemon")?;
        let status = until("the daemon to end", LIMIT, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(anyhow!("it runs")),
            Err(error) => Err(anyhow!("{error}")),
        })?;
        if status.success() { Ok(()) } else { Err(anyhow!("the daemon ended with {status}")) }
    }

    /// SIGKILL: nothing is said or saved.
    pub fn kill(mut self) -> Result<()> {
        kill(self.pid, Signal::SIGKILL).context("send SIGKILL to the daemon")?;
        self.child.wait().context("wait for the daemon")?;
        Ok(())
    }

    /// All the daemon has logged, since the host's first.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).context("read the daemon's log")
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines()
            .rev()
            .take(15)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// What every daemon of a bed is started with.
pub(crate) fn arguments(cgroup_parent: &str) -> [&str; 5] {
    ["daemon", "--cgroup-parent", cgroup_parent, "--pidfile", "/run/docker.pid"]
}

/// `nsenter -p` forks: the daemon is its only child.
fn outer_pid(nsenter: &Child) -> Result<Pid> {
    let id = nsenter.id();
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
        .context("find the daemon's process")?;
    let pid = text.trim().parse().with_context(|| format!("children of {id}: {text:?}"))?;
    Ok(Pid::from_raw(pid))
}
