//! Health checks: a command in the container every so often, and a verdict from its exit codes.

use std::sync::Arc;
use std::time::Duration;

use bollard_stubs::models::{Health, HealthConfig, HealthStatusEnum, HealthcheckResult};
use futures::StreamExt;
use oci_spec::runtime::Process;
use skep_container::{AttachOptions, ExecRequest, Handle};
use skep_types::Nanos;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cell::{Container, HEALTH_LOG};
use super::record::Record;
use super::spec;
use super::watch::{HealthStatus, Phase};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::util;

/// Bytes of output that a result keeps.
const OUTPUT: usize = 4096;
/// Exit code of a check that took too long (Docker's).
const TIMED_OUT: i64 = -1;

/// A check with Docker's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

/// The check of a configuration; `None` when there is none or it is switched off.
pub fn check_of(config: Option<&HealthConfig>, shell: &[String]) -> Option<Check> {
    let config = config?;
    let test = config.test.as_deref().unwrap_or_default();
    let command = match test.first().map(String::as_str) {
        Some("CMD") if test.len() > 1 => test[1..].to_vec(),
        Some("CMD-SHELL") if test.len() > 1 => {
            let mut words = if shell.is_empty() {
                vec!["/bin/sh".to_owned(), "-c".to_owned()]
            } else {
                shell.to_vec()
            };
            words.push(test[1..].join(" "));
            words
        }
        _ => return None,
    };
    let or = |nanos: Option<i64>, default: u64| match nanos.and_then(|n| u64::try_from(n).ok()) {
        Some(n) if n > 0 => Duration::from_nanos(n),
        _ => Duration::from_secs(default),
    };
    Some(Check {
        command,
        interval: or(config.interval, 30),
        timeout: or(config.timeout, 30),
        start_period: or(config.start_period, 0),
        start_interval: or(config.start_interval, 5),
        retries: config.retries.filter(|r| *r > 0).unwrap_or(3),
    })
}

/// The verdict after one more result. During the start period failures do not count, and the first
/// success ends it.
pub fn judge(
    before: HealthStatus,
    streak: i64,
    passed: bool,
    starting: bool,
    retries: i64,
) -> (HealthStatus, i64) {
    if passed {
        return (HealthStatus::Healthy, 0);
    }
    if starting && before == HealthStatus::Starting {
        return (before, streak);
    }
    let streak = streak + 1;
    (if streak >= retries { HealthStatus::Unhealthy } else { before }, streak)
}

impl Engine {
    pub(crate) fn has_health_check(&self, c: &Arc<Container>) -> bool {
        c.read(|r| {
            check_of(r.config.healthcheck.as_ref(), r.config.shell.as_deref().unwrap_or_default())
        })
        .is_some()
    }

    /// Begins to check a container that runs; ends with the run.
    pub(crate) fn begin_health_checks(&self, c: &Arc<Container>) {
        let record = c.record();
        let shell = record.config.shell.clone().unwrap_or_default();
        let Some(check) = check_of(record.config.healthcheck.as_ref(), &shell) else { return };
        let (stop, stopped) = oneshot::channel::<()>();
        c.live(|l| l.health_stop = Some(stop));
        let (this, c) = (self.clone(), c.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = this.health_loop(&c, &record, &check) => {}
                _ = stopped => {}
                () = this.inner.closing.cancelled() => {}
            }
        });
    }

    async fn health_loop(&self, c: &Arc<Container>, record: &Record, check: &Check) {
        let begun = Instant::now();
        loop {
            let starting = c.live(|l| l.health.status) == HealthStatus::Starting
                && begun.elapsed() < check.start_period;
            tokio::time::sleep(if starting {
                check.start_interval.min(check.interval)
            } else {
                check.interval
            })
            .await;
            let Some(handle) = c.handle() else { return };
            if c.phase() == Phase::Paused {
                continue;
            }
            let start = util::now();
            let (code, output) = match self.probe(c, record, &handle, check).await {
                Ok(result) => result,
                Err(error) => (TIMED_OUT, error.report()),
            };
            let result = HealthcheckResult {
                start: Some(util::rfc3339(start)),
                end: Some(util::rfc3339(util::now())),
                exit_code: Some(code),
                output: Some(output),
            };
            let starting = begun.elapsed() < check.start_period;
            let (before, after) = c.live(|l| {
                let before = l.health.status;
                let (status, streak) =
                    judge(before, l.health.streak, code == 0, starting, check.retries);
                l.health.status = status;
                l.health.streak = streak;
                if l.health.log.len() == HEALTH_LOG {
                    l.health.log.pop_front();
                }
                l.health.log.push_back(result);
                (before, status)
            });
            if before != after {
                tracing::info!(
                    container = c.id,
                    from = before.as_str(),
                    to = after.as_str(),
                    "health changed"
                );
                c.tell(|g| g.health = after);
                self.container_event(c, &format!("health_status: {}", after.as_str()), &[]);
            }
        }
    }

    /// Runs the check once; exit code and the beginning of its output.
    async fn probe(
        &self,
        c: &Arc<Container>,
        record: &Record,
        handle: &Handle,
        check: &Check,
    ) -> Result<(i64, String)> {
        let process = self.probe_process(c, record, check).await?;
        let id = util::random_id();
        handle
            .exec_create(ExecRequest {
                id: id.clone(),
                process,
                tty: false,
                open_stdin: false,
                console_size: None,
            })
            .await?;
        let run = async {
            let wanted = AttachOptions { stdin: false, stdout: true, stderr: true };
            let mut output = handle.exec_attach(&id, wanted).await?.output;
            handle.exec_start(&id).await?;
            let mut text = Vec::new();
            while let Some(Ok((_, bytes))) = output.next().await {
                let room = OUTPUT.saturating_sub(text.len());
                text.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            let status = handle.exec_wait(&id).await?;
            Ok::<_, EngineError>((
                i64::from(status.code),
                String::from_utf8_lossy(&text).into_owned(),
            ))
        };
        let result = match tokio::time::timeout(check.timeout, run).await {
            Ok(result) => result,
            Err(_) => {
                // It may have ended just now.
                if let Err(error) = handle.exec_kill(&id, 9).await {
                    tracing::debug!(
                        container = c.id,
                        error = &error as &dyn std::error::Error,
                        "could not kill a health check"
                    );
                }
                if let Err(error) = handle.exec_wait(&id).await {
                    tracing::debug!(
                        container = c.id,
                        error = &error as &dyn std::error::Error,
                        "no end of a killed health check"
                    );
                }
                Ok((
                    TIMED_OUT,
                    format!("Health check exceeded timeout ({})", Nanos::from(check.timeout)),
                ))
            }
        };
        if let Err(error) = handle.exec_remove(&id).await {
            tracing::debug!(
                container = c.id,
                error = &error as &dyn std::error::Error,
                "could not forget a health check"
            );
        }
        result
    }

    async fn probe_process(
        &self,
        c: &Arc<Container>,
        record: &Record,
        check: &Check,
    ) -> Result<Process> {
        let pid = c.read(|r| r.state.pid);
        let (record, args) = (record.clone(), check.command.clone());
        let limits = self.inner.config.default_ulimits.clone();
        util::blocking(move || {
            let root = format!("/proc/{pid}/root");
            let mut process = spec::process(&record, root.as_ref(), &limits)?;
            process.set_args(Some(args)).set_terminal(Some(false));
            Ok(process)
        })
        .await
    }
}

/// As inspect shows it; `None` without a check.
pub fn to_api(c: &Container) -> Option<Health> {
    c.live(|l| {
        let status = match l.health.status {
            HealthStatus::None => return None,
            HealthStatus::Starting => HealthStatusEnum::STARTING,
            HealthStatus::Healthy => HealthStatusEnum::HEALTHY,
            HealthStatus::Unhealthy => HealthStatusEnum::UNHEALTHY,
        };
        Some(Health {
            status: Some(status),
            failing_streak: Some(l.health.streak),
            log: Some(l.health.log.iter().cloned().collect()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthStatus::{Healthy, Starting, Unhealthy};

    #[test]
    fn verdicts() {
        for (before, streak, passed, starting, want) in [
            (Starting, 0, true, true, (Healthy, 0)),
            (Starting, 0, false, true, (Starting, 0)),
            (Starting, 0, false, false, (Starting, 1)),
            (Starting, 2, false, false, (Unhealthy, 3)),
            (Healthy, 0, false, true, (Healthy, 1)),
            (Healthy, 2, false, false, (Unhealthy, 3)),
            (Unhealthy, 7, true, false, (Healthy, 0)),
            (Unhealthy, 7, false, false, (Unhealthy, 8)),
        ] {
            assert_eq!(judge(before, streak, passed, starting, 3), want);
        }
    }

    #[test]
    fn checks() {
        let words = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let of = |test| check_of(Some(&HealthConfig { test, ..Default::default() }), &[]);
        assert_eq!(of(words(&["NONE"])), None);
        assert_eq!(of(words(&[])), None);
        assert_eq!(of(words(&["CMD"])), None);
        assert_eq!(of(words(&["CMD", "a", "b"])).unwrap().command, ["a", "b"]);
        let shell = of(words(&["CMD-SHELL", "a | b"])).unwrap();
        assert_eq!(shell.command, ["/bin/sh", "-c", "a | b"]);
        assert_eq!((shell.interval, shell.retries), (Duration::from_secs(30), 3));
    }
}
