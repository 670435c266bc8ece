//! Starting a container: root, network and process, all or nothing.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_container::spec::Namespace;
use skep_container::{CreateRequest, Handle, LogConfig, Size};
use skep_image::MountOptions;
use skep_net::SandboxId;
use skep_sys::files;
use tokio::sync::OwnedMutexGuard;

use super::cell::Container;
use super::list::TASK_LABEL;
use super::log_config;
use super::mounts::MountKind;
use super::record::Record;
use super::spec::{self, SpecInput};
use super::subpath::PrivateBind;
use super::watch::{HealthStatus, Phase};
use crate::admission::Turn;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::util;

/// Where a container's namespaces come from, and what has been made for them.
struct Surroundings {
    network: Namespace,
    pid: Namespace,
    ipc: Namespace,
    shm: Option<PathBuf>,
    files: Option<PathBuf>,
    sandbox: Option<SandboxId>,
}

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// `NotModified` if it runs; `CommandFailed` when its command cannot be executed; whatever its
    /// network, mounts and limits run into. After a failure nothing of the start is left, and the
    /// container remembers why.
    pub async fn container_start(&self, container: &str) -> Result<()> {
        let c = self.inner.containers.find(container)?;
        // Who goes away before its turn wants no start any more.
        let (turn, op) = self.admit(&c).await;
        let this = self.clone();
        // Carried through even if the caller goes away: a half-started container helps nobody.
        tokio::spawn(async move { this.start_by_user(&c, turn, op, true).await })
            .await
            .map_err(join_error)?
    }

    /// A turn to start a container, and its lock. Who waits in line holds no lock, so that a container which
    /// waits for its start can be removed; and who waits for the lock has no turn, since what has the lock may
    /// be a start that hangs. Cancel safe.
    pub(crate) async fn admit(&self, c: &Container) -> (Turn, OwnedMutexGuard<()>) {
        let _next = c.next.lock().await;
        loop {
            let turn = self.inner.admission.start().await;
            if let Ok(op) = c.op.clone().try_lock_owned() {
                return (turn, op);
            }
            drop(turn);
            drop(c.op.lock().await);
        }
    }

    /// A start that a user asked for; counters of the restart policy begin anew.
    pub(crate) async fn start_by_user(
        &self,
        c: &Arc<Container>,
        turn: Turn,
        op: OwnedMutexGuard<()>,
        remove_if_failed: bool,
    ) -> Result<()> {
        let failed = {
            let _op = op;
            match c.phase() {
                Phase::Running => {
                    return Err(EngineError::NotModified(format!(
                        "container {} is already running",
                        c.id
                    )));
                }
                Phase::Paused => {
                    return Err(EngineError::Conflict(
                        "cannot start a paused container, try unpause instead".into(),
                    ));
                }
                Phase::Removing | Phase::Dead => {
                    return Err(EngineError::Conflict(
                        "container is marked for removal and cannot be started".into(),
                    ));
                }
                Phase::Created | Phase::Restarting | Phase::Exited => {}
            }
            c.live(|l| {
                l.restart_cancel = None;
                l.stopping = false;
                l.backoff_ms = 0;
            });
            c.change(|r| {
                r.restart_count = 0;
                r.stopped_by_user = false;
            });
            match self.start_locked(c, turn).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            }
        };
        if remove_if_failed && c.read(Record::auto_remove) {
            let removed = self.remove_container(c, true, true).await;
            if let Err(error) = removed {
                tracing::warn!(
                    container = c.id,
                    error = &error as &dyn std::error::Error,
                    "could not remove a container that failed to start"
                );
            }
        }
        Err(failed)
    }

    /// Starts it; `op` is held.
    pub(crate) async fn start_locked(&self, c: &Arc<Container>, turn: Turn) -> Result<()> {
        let record = c.record();
        let from = record.state.phase;
        match self.try_start(c, &record, turn).await {
            Ok((handle, sandbox)) => {
                self.now_running(c, handle, sandbox).await;
                tracing::info!(
                    container = c.id,
                    name = record.name,
                    from = from.as_str(),
                    to = "running",
                    "container started"
                );
                Ok(())
            }
            Err(error) => {
                self.take_down(c, &record).await;
                let code = error.exit_code();
                let text = error.report();
                tracing::info!(
                    container = c.id,
                    name = record.name,
                    reason = text,
                    "container could not be started"
                );
                c.change(|r| {
                    r.state.pid = 0;
                    r.state.sandbox = None;
                    r.state.exit_code = code;
                    r.state.error = text;
                    r.state.finished_at = Some(util::now());
                    if from == Phase::Restarting {
                        r.state.phase = Phase::Exited;
                    }
                });
                c.tell(|g| g.exits += 1);
                // Clients that attached for this start see the end of their streams.
                c.live(|l| l.pending.clear());
                c.save_or_warn().await;
                Err(error)
            }
        }
    }

    async fn try_start(
        &self,
        c: &Arc<Container>,
        record: &Record,
        turn: Turn,
    ) -> Result<(Handle, Option<SandboxId>)> {
        let (parts, _turn) = self.use_mounts_in_turn(c, record, turn).await?;
        let root = {
            let (images, id) = (self.inner.images.clone(), c.id.clone());
            // What will be removed at its end, or runs once only, needs no sync at unmount.
            let once = record.auto_remove() || record.label(TASK_LABEL).is_some();
            let options = MountOptions { volatile: once, label: None };
            util::blocking(move || images.mount_to_run(&id, options))
        };
        let (root, around) = tokio::join!(root, self.surroundings(c, record));
        let (root, around) = (root?, around?);

        let log_path = c.log_path();
        let log = record.host_config.log_config.clone().unwrap_or_default();
        let log: LogConfig = log_config::for_shim(&log, &log_path, &record.config)?;
        let (spec, parts) = {
            let (this, mut record, merged) = (self.clone(), record.clone(), root.path());
            // With another container's network comes its name, as Docker has it.
            if let Some(other) = record.network_mode().strip_prefix("container:") {
                let name = self.inner.containers.find(other)?.read(|r| r.config.hostname.clone());
                c.change(|r| r.config.hostname.clone_from(&name));
                record.config.hostname = name;
            }
            let Surroundings { network, pid, ipc, shm, files, .. } = around;
            util::blocking(move || {
                let spec = spec::build(&SpecInput {
                    record: &record,
                    config: &this.inner.config,
                    rootfs: &merged,
                    network,
                    pid,
                    ipc,
                    shm,
                    files,
                    parts: &parts,
                })?;
                Ok::<_, EngineError>((spec, parts))
            })
            .await?
        };
        let size = |list: &[usize]| match list {
            [rows, cols] => {
                Some(Size { rows: u16::try_from(*rows).ok()?, cols: u16::try_from(*cols).ok()? })
                    .filter(|s| s.rows > 0 && s.cols > 0)
            }
            _ => None,
        };
        let request = CreateRequest {
            id: c.id.clone(),
            bundle: self.inner.config.bundles_dir().join(&c.id),
            spec,
            tty: record.tty(),
            open_stdin: record.config.open_stdin.unwrap_or(false),
            stdin_once: record.config.stdin_once.unwrap_or(false),
            console_size: record.host_config.console_size.as_deref().and_then(size),
            log,
            init: record.host_config.init.unwrap_or(self.inner.config.init),
            root: Some(root.as_fd().try_clone_to_owned().map_err(|source| {
                EngineError::system("could not hand a container's root over", source)
            })?),
            leave_out: vec![self.inner.config.netns_dir()],
        };
        // The namespace exists: its interfaces are made while the runtime sets the process up.
        let connect = self.connect_all(c, around.sandbox.as_ref(), record);
        let (created, connected) = tokio::join!(self.inner.runtime.create(request), connect);
        if !parts.is_empty() {
            // The container has mounts of its own now.
            util::blocking(move || drop(parts)).await;
        }
        let handle = created?;
        c.live(|l| l.handle = Some(handle.clone()));
        connected?;
        self.serve_pending(c, &handle).await;
        handle.start().await?;
        Ok((handle, around.sandbox))
    }

    /// Finds or makes the namespaces to run in.
    async fn surroundings(&self, c: &Arc<Container>, record: &Record) -> Result<Surroundings> {
        let host = &record.host_config;
        let mut around = Surroundings {
            network: Namespace::New,
            pid: Namespace::New,
            ipc: Namespace::New,
            shm: None,
            files: Some(c.dir.clone()),
            sandbox: None,
        };
        match host.pid_mode.as_deref().unwrap_or("") {
            "host" => around.pid = Namespace::Host,
            mode => {
                if let Some(other) = mode.strip_prefix("container:") {
                    around.pid = Namespace::Join(self.namespace_of(other, "pid")?);
                }
            }
        }
        match host.ipc_mode.as_deref().unwrap_or("") {
            "host" => {
                around.ipc = Namespace::Host;
                around.shm = Some("/dev/shm".into());
            }
            "shareable" => around.shm = Some(self.make_shared_shm(record)?),
            mode => {
                if let Some(other) = mode.strip_prefix("container:") {
                    around.ipc = Namespace::Join(self.namespace_of(other, "ipc")?);
                    let other = self.inner.containers.find(other)?;
                    if other.read(|r| r.host_config.ipc_mode.as_deref() != Some("shareable")) {
                        return Err(EngineError::Conflict(format!(
                            "cannot join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                            other.id
                        )));
                    }
                    around.shm = Some(self.shared_shm(&other.id));
                }
            }
        }
        if let Some(other) = record.network_mode().strip_prefix("container:") {
            around.network = Namespace::Join(self.namespace_of(other, "net")?);
            around.files = Some(self.inner.containers.find(other)?.dir.clone());
            return Ok(around);
        }
        let (sandbox, key) = self.make_sandbox(c, record).await?;
        around.network = match record.network_mode() {
            "host" => Namespace::Host,
            _ => Namespace::Join(key),
        };
        around.sandbox = Some(sandbox);
        Ok(around)
    }

    /// A namespace of another container, which must run.
    fn namespace_of(&self, other: &str, kind: &str) -> Result<PathBuf> {
        let other = self.inner.containers.find(other)?;
        let state = other.read(|r| r.state.clone());
        match state.phase {
            Phase::Running | Phase::Paused if state.pid > 0 => {
                Ok(format!("/proc/{}/ns/{kind}", state.pid).into())
            }
            Phase::Restarting => Err(EngineError::Conflict(format!(
                "container {} is restarting, wait until the container is running",
                other.id
            ))),
            _ => Err(EngineError::Conflict(format!(
                "cannot join {kind} namespace of a non running container: container {} is {}",
                other.name(),
                state.phase.as_str()
            ))),
        }
    }

    /// Where the memory is that containers share, each in a folder of its container's id.
    pub(super) fn shared_shms(&self) -> PathBuf {
        self.inner.config.exec_root.join("shm")
    }

    fn shared_shm(&self, id: &str) -> PathBuf {
        self.shared_shms().join(id)
    }

    /// A `/dev/shm` that other containers may join.
    fn make_shared_shm(&self, record: &Record) -> Result<PathBuf> {
        let dir = self.shared_shm(&record.id);
        // All may write there: whoever is no container stays outside.
        files::make_dirs(&dir, 0o700).map_err(EngineError::file("create", &dir))?;
        let size = record.host_config.shm_size.unwrap_or(0);
        let flags = nix::mount::MsFlags::MS_NOSUID
            | nix::mount::MsFlags::MS_NODEV
            | nix::mount::MsFlags::MS_NOEXEC;
        let options = format!("mode=1777,size={size}");
        nix::mount::mount(Some("shm"), &dir, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|e| EngineError::File {
                action: "mount shared memory on",
                path: dir.clone(),
                source: e.into(),
            })?;
        Ok(dir)
    }

    /// Takes the shared memory away; nothing happens if there is none.
    pub(super) fn take_shared_shm(&self, id: &str) {
        let dir = self.shared_shm(id);
        // Not mounted or not there is what is wanted.
        let _ = nix::mount::umount2(&dir, nix::mount::MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&dir);
    }

    /// The same as [`Engine::use_mounts`]. For volumes that are mounts, whose file servers may not answer, the
    /// turn is given back: others start meanwhile, however many wait so.
    async fn use_mounts_in_turn(
        &self,
        c: &Arc<Container>,
        record: &Record,
        turn: Turn,
    ) -> Result<(Vec<PrivateBind>, Turn)> {
        if !self.any_mounted(record.volumes()).await {
            return Ok((self.use_mounts(c, record).await?, turn));
        }
        drop(turn);
        let parts = self.use_mounts(c, record).await?;
        Ok((parts, self.inner.admission.start().await))
    }

    /// Gets volumes ready and makes missing sources of `-v` binds. Gives the parts of volumes that are
    /// to be mounted.
    async fn use_mounts(&self, c: &Arc<Container>, record: &Record) -> Result<Vec<PrivateBind>> {
        if record.mounts.is_empty() {
            return Ok(Vec::new());
        }
        let (id, mounts) = (c.id.clone(), record.mounts.clone());
        let run = c.live(|l| {
            l.starts += 1;
            l.starts
        });
        self.with_volumes(record.volumes(), move |this| {
            let mut parts = Vec::new();
            for entry in &mounts {
                match entry.kind {
                    MountKind::Volume => {
                        let data = this.inner.volumes.activate(&entry.name, &id, run)?;
                        if !entry.subpath.is_empty() {
                            parts.push(PrivateBind::make(
                                &this.inner.config,
                                &format!("{id}-{}", parts.len()),
                                &data,
                                &entry.subpath,
                                &entry.destination,
                            )?);
                        }
                        this.volume_event("mount", &entry.name, &[
                            ("container", &id),
                            ("destination", &entry.destination),
                            ("read/write", if entry.rw { "true" } else { "false" }),
                            ("propagation", &entry.propagation),
                        ]);
                    }
                    MountKind::Bind if entry.create_source => {
                        if std::fs::symlink_metadata(&entry.source).is_err() {
                            files::make_dirs(Path::new(&entry.source), 0o755)
                                .map_err(EngineError::file("create the source of a bind mount,", &entry.source))?;
                        }
                    }
                    MountKind::Bind => {
                        if std::fs::symlink_metadata(&entry.source).is_err() {
                            return Err(EngineError::Invalid(format!(
                                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                                entry.source
                            )));
                        }
                    }
                    MountKind::Tmpfs => {}
                }
            }
            Ok(parts)
        })
        .await
    }

    /// Lets the volumes of the run that is over go.
    pub(crate) async fn leave_mounts(&self, c: &Container, record: &Record) {
        let (names, id, run) = (record.volumes(), record.id.clone(), c.live(|l| l.starts));
        if names.is_empty() {
            return;
        }
        self.let_volumes_go(names.clone(), move |this| {
            for name in names {
                this.inner.volumes.deactivate(&name, &id, run);
                this.volume_event("unmount", &name, &[("container", &id)]);
            }
        })
        .await;
    }

    /// Records that it runs, watches for its end, and begins health checks.
    async fn now_running(&self, c: &Arc<Container>, handle: Handle, sandbox: Option<SandboxId>) {
        let state = match handle.state().await {
            Ok(state) => Some(state),
            Err(error) => {
                // It may have ended already; the monitor finds out.
                tracing::debug!(
                    container = c.id,
                    error = &error as &dyn std::error::Error,
                    "no state from the shim"
                );
                None
            }
        };
        for warning in state.iter().flat_map(|s| &s.warnings) {
            tracing::warn!(
                container = c.id,
                warning,
                "the runtime could not do all that was asked"
            );
        }
        let pid = state.as_ref().and_then(|s| s.pid).unwrap_or(0);
        let started = state.and_then(|s| s.started_at).unwrap_or_else(util::now);
        let health = self.has_health_check(c);
        let run = c.live(|l| {
            l.run += 1;
            l.health = Default::default();
            if health {
                l.health.status = HealthStatus::Starting;
            }
            l.run
        });
        c.tell(|g| {
            g.starts += 1;
            g.health = if health { HealthStatus::Starting } else { HealthStatus::None };
        });
        c.change(|r| {
            r.state.phase = Phase::Running;
            r.state.pid = pid;
            r.state.started_at = Some(started);
            r.state.error.clear();
            r.state.oom_killed = false;
            r.state.exit_code = 0;
            r.state.sandbox = sandbox.as_ref().map(|s| s.as_str().to_owned());
        });
        c.save_or_warn().await;
        self.container_event(c, "start", &[]);
        self.watch_end(c, handle.clone(), run);
        self.hold_resolver(c, &handle, sandbox);
        if health {
            self.begin_health_checks(c);
        }
    }
}

/// A task that was cancelled or panicked, as an error.
pub(crate) fn join_error(error: tokio::task::JoinError) -> EngineError {
    EngineError::system("an operation ended before it was done", error)
}
