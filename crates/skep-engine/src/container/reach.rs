//! Shims that cannot be reached.
//!
//! That a shim cannot be asked says nothing about its container: the daemon may have no descriptor left, or
//! the shim hang. Only a shim that is gone is taken for the container's end. Until one or the other is known
//! the container is kept as it is: shown as running, asked again with growing pauses, its calls refused
//! with the reason. Who does not want to wait removes it by force, which ends the shim by its process.

use std::sync::Arc;
use std::time::Duration;

use skep_container::cgroup::Cgroup;
use skep_container::{ConnectError, ControlError, ExitStatus, Handle, ShimProcess, Status};
use time::OffsetDateTime;

use super::cell::Container;
use super::root;
use super::spec;
use super::watch::{HealthStatus, Phase};
use crate::engine::Engine;
use crate::error::{EngineError, Result, report};
use crate::util;

/// Exit code of a container that nobody saw the end of: lost shim, or the host went down (Docker's).
const UNKNOWN_END: i32 = 255;

/// How long a shim gets to say how its container is; it takes less than a millisecond.
pub(super) const STATE_LIMIT: Duration = Duration::from_secs(2);

/// First pause before a shim is asked again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether an error of reaching a shim says that there is none. Others say nothing about the container.
pub(super) fn is_lost(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Unknown { .. } | ConnectError::ShimLost { .. })
}

/// The pauses between tries.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(super) fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(LONGEST_PAUSE);
        now
    }
}

/// A container that runs, and its shim.
#[derive(Debug)]
pub(super) struct Alive {
    pub handle: Handle,
    pub status: Status,
    /// As the shim says, or as recorded if it hangs.
    pub pid: Option<i32>,
    pub started_at: Option<OffsetDateTime>,
}

/// What was found about a container.
#[derive(Debug)]
pub(super) enum Found {
    /// Its shim answers and the process lives; or the shim hangs, and nothing says that it ended.
    Alive(Box<Alive>),
    /// Its shim is there and cannot be reached, for this reason.
    Unreached(String),
    /// It has ended.
    Ended(Option<Box<Handle>>, ExitStatus),
    /// It is made and was never started.
    Unstarted,
}

/// An end that nobody saw.
pub(super) fn unseen_end() -> ExitStatus {
    ExitStatus { code: UNKNOWN_END, signal: None, oom_killed: false, finished_at: util::now() }
}

impl Container {
    /// The process that its record names, if that is the container's: the record may be one of an earlier run.
    /// Where processes cannot be looked at, it is believed.
    pub(super) fn recorded_pid(&self) -> Option<i32> {
        let pid = self.read(|r| r.state.pid);
        (pid > 0 && root::is_process(&self.id, pid).unwrap_or(true)).then_some(pid)
    }
}

impl Engine {
    /// What has become of a container, as its shim says. What is in memory of it is not changed.
    pub(super) async fn ask_shim(&self, c: &Arc<Container>) -> Found {
        let bundle = self.inner.config.bundles_dir().join(&c.id);
        let handle = match self.inner.runtime.connect(&c.id, &bundle).await {
            Ok(handle) => handle,
            Err(error) if is_lost(&error) && !self.has_processes(c).await => {
                return Found::Ended(None, unseen_end());
            }
            Err(error) => {
                return match util::blocking(move || ShimProcess::is_there(&bundle)).await {
                    Ok(false) => Found::Ended(None, unseen_end()),
                    // Where processes cannot be looked at, nothing says that it is gone.
                    Ok(true) | Err(_) => Found::Unreached(report(&error)),
                };
            }
        };
        // Others do not wait for one that hangs.
        let state = match tokio::time::timeout(STATE_LIMIT, handle.state()).await {
            Ok(Ok(state)) => state,
            Ok(Err(ControlError::Gone { .. })) => {
                return Found::Ended(Some(Box::new(handle)), unseen_end());
            }
            Err(_) | Ok(Err(_)) => {
                let (phase, started_at) = c.read(|r| (r.state.phase, r.state.started_at));
                let status = if phase == Phase::Paused { Status::Paused } else { Status::Running };
                return Found::Alive(Box::new(Alive {
                    handle,
                    status,
                    pid: c.recorded_pid(),
                    started_at,
                }));
            }
        };
        match (state.status, state.exit) {
            (_, Some(exit)) => Found::Ended(Some(Box::new(handle)), exit),
            (Status::Running | Status::Paused, None) => Found::Alive(Box::new(Alive {
                handle,
                status: state.status,
                pid: state.pid,
                started_at: state.started_at,
            })),
            (Status::Created, None) => Found::Unstarted,
            (_, None) => Found::Ended(Some(Box::new(handle)), unseen_end()),
        }
    }

    /// Whether anything of a container runs, whatever is left of its bundle.
    async fn has_processes(&self, c: &Container) -> bool {
        let group = Cgroup::at(&c.read(|r| spec::cgroup_path(r, &self.inner.config)));
        match util::blocking(move || group.pids()).await {
            Ok(pids) => !pids.is_empty(),
            // Where it cannot be looked, nothing says so.
            Err(_) => true,
        }
    }

    /// Keeps a container whose shim cannot be reached, and asks again until it is known how it is.
    pub(super) fn keep_unreached(&self, c: &Arc<Container>, reason: String) {
        tracing::warn!(
            container = c.id,
            name = c.name(),
            reason,
            "a container's shim cannot be reached"
        );
        let health = self.has_health_check(c);
        let health = if health { HealthStatus::Starting } else { HealthStatus::None };
        let run = c.live(|l| {
            l.unreached = Some(reason);
            l.health.status = health;
            l.run += 1;
            l.run
        });
        c.tell(|g| g.health = health);
        let (this, c) = (self.clone(), c.clone());
        tokio::spawn(async move {
            let mut pauses = Pauses::new();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pauses.next()) => {}
                    () = this.inner.closing.cancelled() => return,
                }
                // It was removed meanwhile.
                if c.live(|l| l.run) != run {
                    return;
                }
                match this.ask_shim(&c).await {
                    Found::Unreached(reason) => c.live(|l| l.unreached = Some(reason)),
                    Found::Alive(alive) => {
                        let _op = c.op.lock().await;
                        if c.live(|l| l.run) == run && c.phase().is_running() {
                            this.adopt_running(&c, *alive);
                        }
                        return;
                    }
                    Found::Ended(handle, status) => {
                        c.live(|l| l.handle = handle.map(|h| *h));
                        return this.ended(&c, run, status).await;
                    }
                    Found::Unstarted => return this.ended(&c, run, unseen_end()).await,
                }
            }
        });
    }

    /// Ends a container whose shim cannot be reached, by its processes.
    pub(super) async fn end_unreached(&self, c: &Arc<Container>) -> Result<()> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
            EngineError::system(format!("cannot remove container: {}", c.id), source)
        };
        let run = c.live(|l| {
            l.stopping = true;
            l.run
        });
        tracing::warn!(
            container = c.id,
            name = c.name(),
            "ending a container whose shim cannot be reached"
        );
        let bundle = self.inner.config.bundles_dir().join(&c.id);
        // Its settings may be what cannot be read.
        let group = Cgroup::at(&c.read(|r| spec::cgroup_path(r, &self.inner.config)));
        util::blocking(move || {
            ShimProcess::end_of(&bundle)?;
            group.kill_and_remove().map_err(std::io::Error::other)
        })
        .await
        .map_err(|error| failed(error.into()))?;
        // Who ends it removes it, too.
        self.settle_end(c, run, unseen_end()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut pauses = Pauses::new();
        let all: Vec<u128> = (0..9).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(all, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }
}
