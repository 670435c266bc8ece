//! The end of a container: noticing it, clearing up, and its restart policy.

use std::sync::Arc;
use std::time::Duration;

use bollard_stubs::models::RestartPolicyNameEnum as Policy;
use skep_container::{ControlError, ExitStatus, Handle};
use tokio::sync::oneshot;

use super::cell::Container;
use super::reach::{Pauses, unseen_end};
use super::record::Record;
use super::watch::{HealthStatus, Phase};
use crate::engine::Engine;
use crate::error::report;

/// First pause before a restart; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Docker's longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length makes the next pause the first again.
const GOOD_RUN: time::Duration = time::Duration::seconds(10);

/// Who starts a container again, which decides what becomes of its count of restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Its policy, after an end that this daemon saw: one more.
    ByPolicy,
    /// A daemon that starts, after a reboot for example: the count begins anew, as Docker's.
    AtStart,
}

/// What the restart policy makes of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartInput {
    pub policy: Policy,
    /// For `on-failure`; 0 is no limit.
    pub max_retries: i64,
    pub restart_count: i64,
    pub exit_code: i64,
    /// A user stops or has stopped it.
    pub stopped: bool,
}

/// Whether an ended container is started again.
pub fn wants_restart(input: &RestartInput) -> bool {
    if input.stopped {
        return false;
    }
    match input.policy {
        Policy::ALWAYS | Policy::UNLESS_STOPPED => true,
        Policy::ON_FAILURE => {
            input.exit_code != 0
                && (input.max_retries == 0 || input.restart_count < input.max_retries)
        }
        Policy::EMPTY | Policy::NO => false,
    }
}

/// The pause before the next restart, from the last one (zero at first) and how long it ran.
pub fn next_pause(last: Duration, ran: time::Duration) -> Duration {
    if last.is_zero() || ran >= GOOD_RUN { FIRST_PAUSE } else { (last * 2).min(LONGEST_PAUSE) }
}

impl Engine {
    /// Waits for the end of this run in a task of its own.
    pub(crate) fn watch_end(&self, c: &Arc<Container>, handle: Handle, run: u64) {
        let (this, c) = (self.clone(), c.clone());
        tokio::spawn(async move {
            let mut pauses = Pauses::new();
            let status = loop {
                let ended = tokio::select! {
                    ended = handle.wait() => ended,
                    () = this.inner.closing.cancelled() => return,
                };
                let error = match ended {
                    Ok(status) => break status,
                    Err(ControlError::Gone { .. }) => break unseen_end(),
                    Err(error) => error,
                };
                // It was cleared up after meanwhile.
                if c.live(|l| l.run) != run || !c.phase().is_running() {
                    return;
                }
                // Nothing says that it has ended.
                tracing::warn!(
                    container = c.id,
                    error = &error as &dyn std::error::Error,
                    "could not learn whether a container has ended, asking again"
                );
                // Its shim is gone, and what that left cannot be read.
                if matches!(error, ControlError::Io { .. }) {
                    c.live(|l| l.unreached = Some(report(&error)));
                }
                tokio::select! {
                    () = tokio::time::sleep(pauses.next()) => {}
                    () = this.inner.closing.cancelled() => return,
                }
            };
            // Not held room for while it runs.
            Box::pin(this.ended(&c, run, status)).await;
        });
    }

    /// Clears up after the end of a run, and starts or removes the container if that is due.
    pub(crate) async fn ended(&self, c: &Arc<Container>, run: u64, status: ExitStatus) {
        if self.settle_end(c, run, status).await
            && let Err(error) = self.remove_container(c, true, true).await
        {
            tracing::warn!(
                container = c.id,
                error = &error as &dyn std::error::Error,
                "could not remove an ended container"
            );
        }
    }

    /// Clears up after the end of a run, and starts the container if that is due; tells whether it is to be
    /// removed.
    pub(super) async fn settle_end(
        &self,
        c: &Arc<Container>,
        run: u64,
        status: ExitStatus,
    ) -> bool {
        if c.live(|l| l.run) == run {
            c.tell(|g| g.ending = true);
        }
        let _op = c.op.lock().await;
        let _turn = self.inner.admission.end().await;
        if c.live(|l| l.run) != run {
            return false;
        }
        if !c.phase().is_running() {
            c.tell(|g| g.ending = false);
            return false;
        }
        self.clear_up(c, status, Again::ByPolicy).await
    }

    /// The same with `op` held; tells whether the container is to be removed.
    pub(crate) async fn clear_up(
        &self,
        c: &Arc<Container>,
        status: ExitStatus,
        again: Again,
    ) -> bool {
        c.live(|l| {
            l.health_stop = None;
            l.pending.clear();
            l.unreached = None;
        });
        let record = c.record();
        self.take_down(c, &record).await;
        self.forget_execs(c);

        let ran =
            record.state.started_at.map_or(time::Duration::ZERO, |at| status.finished_at - at);
        let stopped = c.live(|l| l.stopping);
        let restart = wants_restart(&restart_input(&record, i64::from(status.code), stopped));
        let pause = restart.then(|| {
            c.live(|l| {
                let pause = next_pause(Duration::from_millis(l.backoff_ms), ran);
                l.backoff_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                pause
            })
        });
        let to = if restart { Phase::Restarting } else { Phase::Exited };
        c.live(|l| l.health.status = HealthStatus::None);
        c.change(|r| {
            r.state.phase = to;
            r.state.pid = 0;
            r.state.sandbox = None;
            r.state.exit_code = i64::from(status.code);
            r.state.oom_killed = status.oom_killed;
            r.state.finished_at = Some(status.finished_at);
        });
        tracing::info!(
            container = c.id,
            name = record.name,
            from = record.state.phase.as_str(),
            to = to.as_str(),
            code = status.code,
            oom = status.oom_killed,
            "container ended"
        );
        if status.oom_killed {
            self.container_event(c, "oom", &[]);
        }
        let (code, seconds) = (status.code.to_string(), ran.whole_seconds().max(0).to_string());
        self.container_event(c, "die", &[("exitCode", &code), ("execDuration", &seconds)]);
        c.save_or_warn().await;
        c.tell(|g| {
            g.exits += 1;
            g.ending = false;
            g.health = HealthStatus::None;
        });
        if let Some(pause) = pause {
            self.restart_after(c, pause, again);
            return false;
        }
        record.auto_remove() && !c.live(|l| l.keep)
    }

    /// Starts a container by its policy after a pause, unless something else happens to it first.
    pub(crate) fn restart_after(&self, c: &Arc<Container>, pause: Duration, again: Again) {
        let (cancel, cancelled) = oneshot::channel::<()>();
        c.live(|l| l.restart_cancel = Some(cancel));
        let (this, c) = (self.clone(), c.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Sent or dropped: either way somebody else decides now.
                _ = cancelled => return,
                () = this.inner.closing.cancelled() => return,
            }
            // The first starts after a restart of the host come before the swarm is back.
            this.networks_at_hand(&c.record()).await;
            let (turn, _op) = this.admit(&c).await;
            if c.phase() != Phase::Restarting {
                return;
            }
            c.live(|l| l.restart_cancel = None);
            c.change(|r| match again {
                Again::ByPolicy => r.restart_count += 1,
                Again::AtStart => r.restart_count = 0,
            });
            if let Err(error) = this.start_locked(&c, turn).await {
                // Docker gives up on a container that cannot be started; so does it not loop here.
                tracing::warn!(
                    container = c.id,
                    error = &error as &dyn std::error::Error,
                    "a restart failed"
                );
            }
        });
    }
}

/// What the policy of a record needs to know.
pub fn restart_input(record: &Record, exit_code: i64, stopped: bool) -> RestartInput {
    let policy = record.host_config.restart_policy.as_ref();
    RestartInput {
        policy: policy.and_then(|p| p.name).unwrap_or(Policy::NO),
        max_retries: policy.and_then(|p| p.maximum_retry_count).unwrap_or(0),
        restart_count: record.restart_count,
        exit_code,
        stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let base = RestartInput {
            policy: Policy::NO,
            max_retries: 0,
            restart_count: 0,
            exit_code: 1,
            stopped: false,
        };
        for (input, want) in [
            (base, false),
            (RestartInput { policy: Policy::ALWAYS, exit_code: 0, ..base }, true),
            (RestartInput { policy: Policy::ALWAYS, stopped: true, ..base }, false),
            (RestartInput { policy: Policy::UNLESS_STOPPED, ..base }, true),
            (RestartInput { policy: Policy::ON_FAILURE, ..base }, true),
            (RestartInput { policy: Policy::ON_FAILURE, exit_code: 0, ..base }, false),
            (
                RestartInput {
                    policy: Policy::ON_FAILURE,
                    max_retries: 3,
                    restart_count: 2,
                    ..base
                },
                true,
            ),
            (
                RestartInput {
                    policy: Policy::ON_FAILURE,
                    max_retries: 3,
                    restart_count: 3,
                    ..base
                },
                false,
            ),
        ] {
            assert_eq!(wants_restart(&input), want, "{input:?}");
        }
    }

    #[test]
    fn pauses() {
        let ms = Duration::from_millis;
        assert_eq!(next_pause(Duration::ZERO, time::Duration::ZERO), ms(100));
        assert_eq!(next_pause(ms(100), time::Duration::ZERO), ms(200));
        assert_eq!(next_pause(ms(51_200), time::Duration::seconds(9)), LONGEST_PAUSE);
        assert_eq!(next_pause(ms(51_200), time::Duration::seconds(10)), ms(100));
    }
}
