//! Further processes in running containers.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_stubs::models::{ExecConfig, ExecInspectResponse, IdResponse, ProcessConfig};
use futures::StreamExt;
use nix::fcntl::OFlag;
use oci_spec::runtime::Process;
use skep_container::spec::{Environment, rootfs};
use skep_container::{AttachOptions, ExecRequest, Handle, Size};
use tokio::sync::oneshot;

use super::cell::Container;
use super::record::Record;
use super::root;
use super::spec;
use super::watch::Phase;
use crate::engine::Engine;
use crate::error::{EngineError, NotRunningText, Result};
use crate::options::{AttachSession, ExecStartOptions};
use crate::util;

/// Ended execs of a container that can still be inspected; older ones are forgotten.
const KEPT: usize = 32;
/// Execs of a container that were made and not started; the oldest are forgotten beyond that.
const KEPT_IDLE: usize = 1024;

/// All execs of the host by id.
#[derive(Debug, Default)]
pub struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

/// One exec.
#[derive(Debug)]
pub struct Exec {
    id: String,
    container: String,
    config: ExecConfig,
    state: Mutex<ExecState>,
}

#[derive(Debug, Default, Clone, Copy)]
struct ExecState {
    started: bool,
    running: bool,
    pid: i32,
    exit_code: Option<i64>,
}

impl Execs {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<String, Arc<Exec>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>> {
        self.with(|all| {
            if let Some(exec) = all.get(id) {
                return Ok(exec.clone());
            }
            let mut fits = all.values().filter(|e| !id.is_empty() && e.id.starts_with(id));
            match (fits.next(), fits.next()) {
                (Some(one), None) => Ok(one.clone()),
                _ => Err(EngineError::NoSuchExec(id.to_owned())),
            }
        })
    }
}

impl Exec {
    fn state(&self) -> ExecState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, f: impl FnOnce(&mut ExecState) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tty(&self) -> bool {
        self.config.tty.unwrap_or(false)
    }

    fn has_run(&self) -> EngineError {
        EngineError::Conflict(format!("exec command {} has already run", self.id))
    }

    fn command(&self) -> String {
        self.config.cmd.clone().unwrap_or_default().join(" ")
    }
}

impl Engine {
    /// Registers a process to run in a container.
    ///
    /// # Errors
    /// `Invalid` without a command; `NotRunning`; `Conflict` when it is paused.
    pub async fn exec_create(&self, container: &str, body: ExecConfig) -> Result<IdResponse> {
        let c = self.inner.containers.find(container)?;
        if body.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(EngineError::invalid("No exec command specified"));
        }
        self.exec_target(&c)?;
        let exec = Arc::new(Exec {
            id: util::random_id(),
            container: c.id.clone(),
            config: body,
            state: Mutex::default(),
        });
        let id = exec.id.clone();
        let dropped = c.live(|l| {
            l.execs.push(id.clone());
            let over = l.execs.len().saturating_sub(KEPT);
            let ended: Vec<String> = self.inner.execs.with(|all| {
                l.execs
                    .iter()
                    .filter(|id| all.get(*id).is_none_or(|e| e.state().exit_code.is_some()))
                    .cloned()
                    .collect()
            });
            // Who makes one starts it soon; so many that were never started are forgotten by their
            // makers.
            let idle: Vec<String> = self.inner.execs.with(|all| {
                let idle = |id: &&String| all.get(*id).is_some_and(|e| !e.state().started);
                l.execs.iter().filter(idle).cloned().collect()
            });
            let too_many = idle.len().saturating_sub(KEPT_IDLE);
            let dropped: Vec<String> =
                ended.into_iter().take(over).chain(idle.into_iter().take(too_many)).collect();
            l.execs.retain(|id| !dropped.contains(id));
            dropped
        });
        let action = format!("exec_create: {}", exec.command());
        self.inner.execs.with(|all| {
            for old in dropped {
                all.remove(&old);
            }
            all.insert(id.clone(), exec)
        });
        self.container_event(&c, &action, &[("execID", &id)]);
        Ok(IdResponse { id })
    }

    fn exec_target(&self, c: &Arc<Container>) -> Result<Handle> {
        match c.phase() {
            Phase::Running => self.running_handle(c),
            Phase::Paused => Err(EngineError::Conflict(format!(
                "Container {} is paused, unpause the container before exec",
                c.id
            ))),
            Phase::Restarting => Err(EngineError::Conflict(format!(
                "Container {} is restarting, wait until the container is running",
                c.id
            ))),
            _ => Err(EngineError::NotRunning { id: c.id.clone(), kind: NotRunningText::Exec }),
        }
    }

    /// Whether an exec could start now, for those who answer a client before it starts.
    ///
    /// # Errors
    /// `NoSuchExec`; `NotRunning`; `Conflict` when it has run already or the container is paused.
    pub fn exec_check(&self, exec: &str) -> Result<()> {
        let exec = self.inner.execs.find(exec)?;
        self.exec_target(&self.inner.containers.find(&exec.container)?)?;
        if exec.state().started { Err(exec.has_run()) } else { Ok(()) }
    }

    /// Runs it. `None` when detached; else its streams, which end with it.
    ///
    /// # Errors
    /// `NoSuchExec`; `Conflict` when it has run already; `CommandFailed`.
    pub async fn exec_start(
        &self,
        exec: &str,
        options: ExecStartOptions,
    ) -> Result<Option<AttachSession>> {
        let exec = self.inner.execs.find(exec)?;
        let c = self.inner.containers.find(&exec.container)?;
        let handle = self.exec_target(&c)?;
        if exec.change(|s| std::mem::replace(&mut s.started, true)) {
            return Err(exec.has_run());
        }
        let started = self.exec_run(&c, &exec, &handle, options).await;
        if let Err(error) = &started {
            let code = match error {
                EngineError::CommandFailed { .. } | EngineError::SetupFailed { .. } => {
                    error.exit_code()
                }
                _ => 126,
            };
            exec.change(|s| {
                s.running = false;
                s.exit_code = Some(code);
            });
        }
        started
    }

    async fn exec_run(
        &self,
        c: &Arc<Container>,
        exec: &Arc<Exec>,
        handle: &Handle,
        options: ExecStartOptions,
    ) -> Result<Option<AttachSession>> {
        let config = &exec.config;
        let attach = AttachOptions {
            stdin: config.attach_stdin.unwrap_or(false) && !options.detach,
            stdout: config.attach_stdout.unwrap_or(false) && !options.detach,
            stderr: config.attach_stderr.unwrap_or(false) && !options.detach,
        };
        let process = {
            let (record, config, limits) =
                (c.record(), exec.config.clone(), self.inner.config.default_ulimits.clone());
            util::blocking(move || exec_process(&record, &config, &limits)).await?
        };
        let configured = match exec.config.console_size.as_deref() {
            Some([rows, cols]) => u16::try_from(*rows)
                .ok()
                .zip(u16::try_from(*cols).ok())
                .map(|(rows, cols)| Size { rows, cols }),
            _ => None,
        };
        handle
            .exec_create(ExecRequest {
                id: exec.id.clone(),
                process,
                tty: exec.tty(),
                open_stdin: attach.stdin,
                console_size: options.size.or(configured),
            })
            .await?;
        let attached =
            if options.detach { None } else { Some(handle.exec_attach(&exec.id, attach).await?) };
        let action = format!("exec_start: {}", exec.command());
        self.container_event(c, &action, &[("execID", &exec.id)]);
        let pid = match handle.exec_start(&exec.id).await {
            Ok(pid) => pid,
            Err(error) => {
                self.exec_forget(handle, &exec.id).await;
                return Err(error.into());
            }
        };
        exec.change(|s| {
            s.running = true;
            s.pid = pid;
        });
        let (noted, end) = oneshot::channel::<()>();
        self.exec_watch(c, exec, handle, noted);
        // Who saw the end of the output asks for the exit code at once: it must be there by then.
        let end = futures::stream::once(end).filter_map(|_| std::future::ready(None));
        let tty = exec.tty();
        Ok(attached.map(|attached| AttachSession {
            tty,
            output: attached
                .output
                .map(|r| r.map_err(|e| EngineError::system("could not read the output", e)))
                .chain(end)
                .boxed(),
            input: if attach.stdin {
                Some(Box::pin(attached.stdin) as crate::InputWriter)
            } else {
                None
            },
        }))
    }

    /// Notes the end of an exec, and lets go of `noted` then.
    fn exec_watch(
        &self,
        c: &Arc<Container>,
        exec: &Arc<Exec>,
        handle: &Handle,
        noted: oneshot::Sender<()>,
    ) {
        let (this, c, exec, handle) = (self.clone(), c.clone(), exec.clone(), handle.clone());
        tokio::spawn(async move {
            let code = match handle.exec_wait(&exec.id).await {
                Ok(status) => i64::from(status.code),
                // The container ended and took it along.
                Err(_) => 137,
            };
            exec.change(|s| {
                s.running = false;
                s.exit_code = Some(code);
            });
            drop(noted);
            this.container_event(
                &c,
                "exec_die",
                &[("execID", &exec.id), ("exitCode", &code.to_string())],
            );
            this.exec_forget(&handle, &exec.id).await;
        });
    }

    async fn exec_forget(&self, handle: &Handle, id: &str) {
        if let Err(error) = handle.exec_remove(id).await {
            tracing::debug!(
                exec = id,
                error = &error as &dyn std::error::Error,
                "the shim did not forget an exec"
            );
        }
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// `NoSuchExec`; `Conflict` when it does not run.
    pub async fn exec_resize(&self, exec: &str, size: Size) -> Result<()> {
        let exec = self.inner.execs.find(exec)?;
        let c = self.inner.containers.find(&exec.container)?;
        if !exec.state().running {
            return Err(EngineError::Conflict(format!("exec process {} is not running", exec.id)));
        }
        Ok(self.exec_target(&c)?.exec_resize(&exec.id, size).await?)
    }

    /// What is known about an exec.
    ///
    /// # Errors
    /// `NoSuchExec`.
    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecInspectResponse> {
        let exec = self.inner.execs.find(exec)?;
        let state = exec.state();
        let config = &exec.config;
        let mut words = config.cmd.clone().unwrap_or_default();
        let first = if words.is_empty() { String::new() } else { words.remove(0) };
        Ok(ExecInspectResponse {
            can_remove: Some(state.exit_code.is_some()),
            detach_keys: config.detach_keys.clone(),
            id: Some(exec.id.clone()),
            running: Some(state.running),
            exit_code: state.exit_code,
            process_config: Some(ProcessConfig {
                privileged: config.privileged,
                user: config.user.clone(),
                tty: config.tty,
                entrypoint: Some(first),
                arguments: Some(words),
            }),
            open_stdin: config.attach_stdin,
            open_stderr: config.attach_stderr,
            open_stdout: config.attach_stdout,
            container_id: Some(exec.container.clone()),
            pid: Some(i64::from(state.pid)),
        })
    }

    /// A container that ended takes its execs along.
    pub(crate) fn forget_execs(&self, c: &Container) {
        let ids = c.live(|l| std::mem::take(&mut l.execs));
        self.inner.execs.with(|all| {
            for id in ids {
                all.remove(&id);
            }
        });
    }
}

/// An exec's process: the container's, with what the exec says laid over it. Blocks.
fn exec_process(
    record: &Record,
    config: &ExecConfig,
    limits: &[(String, i64, i64)],
) -> Result<Process> {
    let gone = || EngineError::NotRunning { id: record.id.clone(), kind: NotRunningText::Exec };
    let root = root::process_root(&record.id, record.state.pid)?.ok_or_else(gone)?;
    let root = root::fd_path(&root);
    let own_user = config.user.clone().filter(|u| !u.is_empty());
    let mut record = record.clone();
    let changed = own_user.is_some();
    if let Some(user) = own_user {
        record.config.user = Some(user);
        record.host_config.group_add = None;
    }
    if config.privileged.unwrap_or(false) {
        record.host_config.privileged = Some(true);
    }
    record.config.tty = config.tty;
    let mut process = spec::process(&record, root.as_ref(), limits)?;
    let mut env = Environment::default();
    env.extend(process.env().iter().flatten().map(String::as_str));
    if changed && !config.env.iter().flatten().any(|e| e.starts_with("HOME=")) {
        let user = spec::user(root.as_ref(), record.config.user.as_deref().unwrap_or(""), &[])?;
        env.set(&format!("HOME={}", user.home));
    }
    env.extend(config.env.iter().flatten().map(String::as_str));
    process.set_env(Some(env.into_entries())).set_args(config.cmd.clone());
    if let Some(dir) = config.working_dir.as_deref().filter(|d| !d.is_empty()) {
        if !dir.starts_with('/') {
            return Err(EngineError::Invalid(format!("Cwd must be an absolute path: {dir}")));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match rootfs::open(root.as_ref(), dir.as_ref(), flags) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                let why = skep_types::errno_text(&error);
                return Err(EngineError::SetupFailed {
                    message: format!("chdir to cwd ({dir:?}) set in config.json failed: {why}"),
                });
            }
            // Whatever else: the runtime enters it as the container sees it, and says if it cannot.
            _ => process.set_cwd(dir.into()),
        };
    }
    Ok(process)
}
