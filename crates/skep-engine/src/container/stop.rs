//! Signals: stop, kill, restart, pause.

use std::sync::Arc;
use std::time::Duration;

use skep_container::{ControlError, proto::Refusal};

use super::cell::Container;
use super::start::join_error;
use super::watch::{Glance, Phase};
use skep_types::check;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::error::{EngineError, NotRunningText, Result};
use crate::options::StopOptions;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// How long the kernel gets to end a process after SIGKILL. Only uninterruptible sleep lasts longer.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Stops a container: its stop signal, then SIGKILL after the grace period. Returns when it has
    /// ended and everything it used is free.
    ///
    /// # Errors
    /// `NotModified` if it does not run.
    pub async fn container_stop(&self, container: &str, options: StopOptions) -> Result<()> {
        let c = self.inner.containers.find(container)?;
        settle(&c).await;
        if !is_up(c.phase()) {
            return Err(EngineError::NotModified(format!("container {} is already stopped", c.id)));
        }
        c.reachable()?;
        c.change(|r| r.stopped_by_user = true);
        self.stop_and_wait(&c, &options).await?;
        self.container_event(&c, "stop", &[]);
        Ok(())
    }

    /// Stops it and starts it again; a stopped one is only started.
    ///
    /// # Errors
    /// As start and stop.
    pub async fn container_restart(&self, container: &str, options: StopOptions) -> Result<()> {
        let c = self.inner.containers.find(container)?;
        let this = self.clone();
        tokio::spawn(async move {
            c.live(|l| l.keep = true);
            let result = async {
                if is_up(c.phase()) {
                    // What could not be started again goes on.
                    this.inner.images.check_rw(&c.id)?;
                    this.stop_and_wait(&c, &options).await?;
                }
                let (turn, op) = this.admit(&c).await;
                this.start_by_user(&c, turn, op, false).await
            }
            .await;
            c.live(|l| l.keep = false);
            match result {
                Ok(()) | Err(EngineError::NotModified(_)) => {
                    this.container_event(&c, "restart", &[]);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
        .await
        .map_err(join_error)?
    }

    /// Sends a signal, SIGKILL if none is named; waits for the end only after SIGKILL.
    ///
    /// # Errors
    /// `NotRunning`, `Invalid` for unknown signals.
    pub async fn container_kill(&self, container: &str, name: Option<&str>) -> Result<()> {
        let number = match name.filter(|n| !n.is_empty()) {
            Some(name) => check::signal(name)?,
            None => SIGKILL,
        };
        let c = self.inner.containers.find(container)?;
        let not_running =
            || EngineError::NotRunning { id: c.id.clone(), kind: NotRunningText::Kill };
        if c.phase() == Phase::Restarting && number == SIGKILL {
            c.change(|r| r.stopped_by_user = true);
            if self.cancel_restart(&c).await? {
                return Ok(());
            }
        }
        settle(&c).await;
        if !c.phase().is_running() {
            return Err(not_running());
        }
        c.reachable()?;
        if number == SIGKILL || number == self.stop_signal(&c, None)? {
            // The end is wanted: the restart policy must not answer it.
            c.live(|l| l.stopping = true);
            c.change(|r| r.stopped_by_user = true);
        }
        let exits = c.watch().borrow().exits;
        if !self.send(&c, number).await? {
            return Err(not_running());
        }
        self.container_event(&c, "kill", &[("signal", &number.to_string())]);
        if number == SIGKILL && !wait_end(c.watch(), exits, Some(KILL_WAIT)).await {
            return Err(EngineError::system(
                format!("Cannot kill container: {}", c.id),
                "tried to kill container, but did not receive an exit event",
            ));
        }
        Ok(())
    }

    /// Freezes a container.
    ///
    /// # Errors
    /// `Conflict` when it is paused or does not run.
    pub async fn container_pause(&self, container: &str) -> Result<()> {
        let c = self.inner.containers.find(container)?;
        let _op = c.op.lock().await;
        match c.phase() {
            Phase::Running => {}
            Phase::Paused => {
                return Err(EngineError::Conflict(format!("container {} is already paused", c.id)));
            }
            Phase::Restarting => {
                return Err(EngineError::Conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    c.id
                )));
            }
            _ => {
                return Err(EngineError::NotRunning {
                    id: c.id.clone(),
                    kind: NotRunningText::Exec,
                });
            }
        }
        self.running_handle(&c)?.pause().await?;
        c.change(|r| r.state.phase = Phase::Paused);
        c.save_or_warn().await;
        self.container_event(&c, "pause", &[]);
        Ok(())
    }

    /// Thaws a container.
    ///
    /// # Errors
    /// `Conflict` when it is not paused.
    pub async fn container_unpause(&self, container: &str) -> Result<()> {
        let c = self.inner.containers.find(container)?;
        let _op = c.op.lock().await;
        if c.phase() != Phase::Paused {
            return Err(EngineError::Conflict(format!("Container {} is not paused", c.id)));
        }
        self.running_handle(&c)?.resume().await?;
        c.change(|r| r.state.phase = Phase::Running);
        c.save_or_warn().await;
        self.container_event(&c, "unpause", &[]);
        Ok(())
    }

    /// The shim's handle of a running container.
    pub(crate) fn running_handle(&self, c: &Arc<Container>) -> Result<skep_container::Handle> {
        let not_running =
            || EngineError::NotRunning { id: c.id.clone(), kind: NotRunningText::Exec };
        if !c.phase().is_running() {
            return Err(not_running());
        }
        c.reachable()?;
        c.handle().ok_or_else(not_running)
    }

    /// Ends it and waits for its end; the restart policy is told to stay out of it.
    pub(crate) async fn stop_and_wait(
        &self,
        c: &Arc<Container>,
        options: &StopOptions,
    ) -> Result<()> {
        let number = self.stop_signal(c, options.signal.as_deref())?;
        let own = c.read(|r| r.config.stop_timeout);
        let seconds = options.timeout.or(own).unwrap_or(self.inner.config.stop_timeout_secs);
        c.reachable()?;
        c.live(|l| l.stopping = true);
        if c.phase() == Phase::Restarting && self.cancel_restart(c).await? {
            return Ok(());
        }
        let exits = c.watch().borrow().exits;
        if !self.send(c, number).await? {
            // Its process has ended, which is known to others in a moment.
            if !c.phase().is_running() || wait_end(c.watch(), exits, Some(KILL_WAIT)).await {
                return Ok(());
            }
            // Not if it cannot be learnt.
            c.reachable()?;
            return Err(no_exit_event(c));
        }
        self.container_event(c, "kill", &[("signal", &number.to_string())]);
        let grace = u64::try_from(seconds).ok().map(Duration::from_secs);
        if wait_end(c.watch(), exits, grace).await {
            return Ok(());
        }
        tracing::info!(
            container = c.id,
            seconds,
            "container did not end within its grace period and is killed"
        );
        if self.send(c, SIGKILL).await? {
            self.container_event(c, "kill", &[("signal", "9")]);
        }
        if wait_end(c.watch(), exits, Some(KILL_WAIT)).await {
            return Ok(());
        }
        Err(no_exit_event(c))
    }

    /// Ends a container whose shim does not answer, by ending the shim.
    pub(crate) async fn end_hung(&self, c: &Arc<Container>) -> Result<()> {
        let exits = c.watch().borrow().exits;
        let Some(handle) = c.handle() else { return Ok(()) };
        handle.kill_shim().await.map_err(|error| {
            EngineError::system(format!("cannot remove container: {}", c.id), error)
        })?;
        // Whoever watches for its end clears up.
        if wait_end(c.watch(), exits, Some(KILL_WAIT)).await {
            return Ok(());
        }
        Err(EngineError::system(
            format!("cannot remove container: {}", c.id),
            "its shim, which did not answer, was killed, but its processes did not end",
        ))
    }

    fn stop_signal(&self, c: &Arc<Container>, given: Option<&str>) -> Result<i32> {
        let own = c.read(|r| r.config.stop_signal.clone());
        match given.filter(|s| !s.is_empty()).or(own.as_deref().filter(|s| !s.is_empty())) {
            Some(name) => Ok(check::signal(name)?),
            None => Ok(SIGTERM),
        }
    }

    /// Sends a signal to the init process; a frozen one is thawed so that it can act on it. `false`
    /// when it has ended.
    async fn send(&self, c: &Arc<Container>, number: i32) -> Result<bool> {
        let Some(handle) = c.handle() else { return Ok(false) };
        match handle.kill(number).await {
            Ok(()) => {}
            Err(
                ControlError::Gone { .. }
                | ControlError::Refused { reason: Refusal::NotRunning, .. },
            ) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        if c.phase() == Phase::Paused {
            let _op = c.op.lock().await;
            if c.phase() == Phase::Paused {
                match handle.resume().await {
                    Ok(()) => c.change(|r| r.state.phase = Phase::Running),
                    Err(ControlError::Gone { .. } | ControlError::Refused { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(true)
    }

    /// Keeps a container that waits for its restart from being started. `false` when it came too late:
    /// the restart was under way, and the container runs.
    async fn cancel_restart(&self, c: &Arc<Container>) -> Result<bool> {
        let _op = c.op.lock().await;
        if c.phase() == Phase::Restarting {
            c.live(|l| l.restart_cancel = None);
            c.change(|r| r.state.phase = Phase::Exited);
            c.save_or_warn().await;
        }
        Ok(!c.phase().is_running())
    }
}

fn no_exit_event(c: &Container) -> EngineError {
    EngineError::system(
        format!("cannot stop container: {}", c.id),
        "tried to kill container, but did not receive an exit event",
    )
}

/// Waits until it has ended more often than `exits`, or is removed. `false` if its process has not
/// ended after `limit`; clearing up after it has its own time, which depends on how many others are
/// in line.
async fn wait_end(mut watch: watch::Receiver<Glance>, exits: u64, limit: Option<Duration>) -> bool {
    let over = |g: &Glance| g.exits > exits || g.removed;
    if let Some(limit) = limit {
        let ending = watch.wait_for(|g| g.ending || over(g));
        if !tokio::time::timeout(limit, ending).await.is_ok_and(|r| r.is_ok()) {
            return false;
        }
    }
    watch.wait_for(over).await.is_ok()
}

/// Waits for what is under way with a container that is not up: a start goes on when nobody waits for it any more, and
/// whoever wants the container stopped means what comes of it.
async fn settle(c: &Container) {
    if !is_up(c.phase()) {
        drop(c.op.lock().await);
    }
}

/// Whether there is something to stop.
fn is_up(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Paused | Phase::Restarting)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of others' clearing up is no sign that a process does not end.
    #[tokio::test(start_paused = true)]
    async fn a_limit_is_for_the_process_and_not_for_the_queue() {
        let limit = Some(Duration::from_secs(10));
        let (glance, watch) = watch::channel(Glance { exits: 3, ..Glance::default() });
        assert!(!wait_end(watch.clone(), 3, limit).await);
        let waiting = tokio::spawn(wait_end(watch, 3, limit));
        tokio::time::sleep(Duration::from_secs(5)).await;
        glance.send_modify(|g| g.ending = true);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!waiting.is_finished());
        glance.send_modify(|g| {
            g.ending = false;
            g.exits = 4;
        });
        assert!(waiting.await.expect("join"));
    }
}
