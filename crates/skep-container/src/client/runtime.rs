//! Starting shims and finding them again.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::LinuxNamespaceType;
use tokio::sync::OnceCell;

use super::bundle;
use super::connection::{self, Connection, is_gone};
use super::handle::Handle;
use super::requests::CreateRequest;
use super::shims::ShimProcess;
use crate::blocking::blocking;
use crate::cgroup::{Cgroup, Layout};
use crate::error::{ConnectError, ControlError, CreateError, DeleteError};
use crate::proto::{self, Command, Refusal, Reply, ShimConfig};

/// How long a shim gets for its first answer; it answers in less than a millisecond.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// Creates containers, and finds those that exist.
#[derive(Clone, Debug)]
pub struct Runtime {
    exe: PathBuf,
    /// By which it is executed: what a container's processes come from, each of them can name by `/proc/self/exe`.
    handle: Arc<OnceCell<OwnedFd>>,
}

impl Runtime {
    /// `exe` is an executable which, run as `exe shim <bundle>`, calls [`crate::shim::main`] with the
    /// arguments after `shim` (for `skep`: itself, by `/proc/self/exe`).
    pub fn new(exe: impl Into<PathBuf>) -> Self {
        Runtime { exe: exe.into(), handle: Arc::default() }
    }

    /// Starts a shim and sets the container up to before its first instruction.
    ///
    /// After an error no process and no control group of it is left.
    pub async fn create(&self, mut request: CreateRequest) -> Result<Handle, CreateError> {
        let id = request.id.clone();
        let config = prepare(&mut request)?;
        let bundle = request.bundle.clone();
        self.end_earlier(&id, &bundle, &config).await?;
        bundle::write(&id, &bundle, &config, &request.spec).await?;
        self.spawn_shim(&id, &bundle, request.root.take()).await?;

        let control = |source| CreateError::Control { id: id.clone(), source };
        let stream = connection::open(&bundle).await.map_err(|source| {
            control(ControlError::Io { id: id.clone(), op: "connect", source })
        })?;
        let handle = Handle::new(
            id.clone(),
            bundle,
            Cgroup::at(&config.cgroup),
            Some(Connection::new(stream)),
        );
        let failed = match handle.done("subscribe", Command::Subscribe).await {
            Err(source) => control(source),
            Ok(()) => match handle.ask("create", Command::Create).await {
                Ok(Reply::Pid(_)) => return Ok(handle),
                Ok(_) => control(ControlError::Protocol { id: id.clone(), op: "create" }),
                Err(ControlError::Refused { reason: Refusal::Launch { message }, .. }) => {
                    CreateError::Launch { id: id.clone(), message }
                }
                Err(source) => control(source),
            },
        };
        if let Err(error) = handle.delete().await {
            tracing::warn!(
                container = id,
                error = &error as &dyn std::error::Error,
                "could not clean up after a failed create"
            );
        }
        Err(failed)
    }

    /// Finds a container which an earlier daemon created. Works after its end too, from the exit
    /// status on disk. A shim that is there and does not answer within three seconds gets its handle
    /// all the same: calls fail until it answers again.
    pub async fn connect(&self, id: &str, bundle: &Path) -> Result<Handle, ConnectError> {
        let cgroup = bundle::find_cgroup(bundle).await;
        let handle = |cgroup: &Path, connection| {
            Handle::new(id.to_owned(), bundle.to_owned(), Cgroup::at(cgroup), connection)
        };
        let unknown = |why: Option<io::Error>| match why {
            Some(source) => ConnectError::Read { path: bundle.join(proto::CONFIG_FILE), source },
            None => ConnectError::Unknown { id: id.to_owned(), bundle: bundle.to_owned() },
        };
        match connection::open(bundle).await {
            Ok(stream) => {
                let connection = Connection::new(stream);
                let cgroup = match &cgroup {
                    Ok(Some(cgroup)) => Some(cgroup.clone()),
                    // Its files are gone or damaged; itself it knows.
                    _ => ask_cgroup(&connection).await,
                };
                let Some(cgroup) = cgroup else {
                    return Err(ConnectError::Mute {
                        id: id.to_owned(),
                        bundle: bundle.to_owned(),
                    });
                };
                let handle = handle(&cgroup, Some(connection));
                let subscribed = handle.done("subscribe", Command::Subscribe);
                match tokio::time::timeout(FIRST_ANSWER, subscribed).await {
                    Ok(Ok(())) => return Ok(handle),
                    // It was just ending.
                    Ok(Err(ControlError::Gone { .. })) => {}
                    Ok(Err(source)) => {
                        return Err(ConnectError::Control { id: id.to_owned(), source });
                    }
                    Err(_) => {
                        tracing::warn!(container = id, "a shim does not answer");
                        return Ok(handle);
                    }
                }
            }
            Err(e) if is_gone(&e) => {}
            Err(source) => return Err(ConnectError::Io { id: id.to_owned(), source }),
        }
        let cgroup = match cgroup {
            Ok(Some(cgroup)) => cgroup,
            other => return Err(unknown(other.err())),
        };
        match bundle::read_exit(bundle).await {
            Ok(Some(_)) => Ok(handle(&cgroup, None)),
            Ok(None) => {
                Err(ConnectError::ShimLost { id: id.to_owned(), bundle: bundle.to_owned() })
            }
            Err(source) => Err(ConnectError::Read { path: bundle.join(proto::EXIT_FILE), source }),
        }
    }

    /// Ends and removes what is left of a container that nobody has a handle of: one that lost its
    /// shim ([`ConnectError::ShimLost`]), or whose shim outlived the daemon that was just creating it.
    /// Does nothing if nothing is left.
    pub async fn clean_up(&self, id: &str, bundle: &Path) -> Result<(), DeleteError> {
        let found = bundle::find_cgroup(bundle).await;
        // Where nobody listens, or whoever does cannot be asked, processes are found by their group.
        let connection = connection::open(bundle).await.ok().map(Connection::new);
        let cgroup = match (found, &connection) {
            (Ok(Some(cgroup)), _) => cgroup,
            (found, Some(connection)) => match (ask_cgroup(connection).await, found) {
                (Some(cgroup), _) => cgroup,
                (None, found) => return unknown(bundle, found.err()),
            },
            (found, None) => return unknown(bundle, found.err()),
        };
        let cgroup = Cgroup::at(&cgroup);
        match connection {
            Some(connection) => {
                Handle::new(id.to_owned(), bundle.to_owned(), cgroup, Some(connection))
                    .delete()
                    .await
            }
            None => bundle::remove_remains(id, bundle, &cgroup).await,
        }
    }

    /// Ends what an earlier run has left, whatever its end looked like: two may not run on one root.
    async fn end_earlier(
        &self,
        id: &str,
        bundle: &Path,
        config: &ShimConfig,
    ) -> Result<(), CreateError> {
        let left = |source| CreateError::Left { id: id.to_owned(), source: Box::new(source) };
        let cgroup = Cgroup::at(&config.cgroup);
        let runs = {
            let cgroup = cgroup.clone();
            blocking(move || cgroup.pids()).await
        };
        let runs =
            runs.map_err(|source| left(DeleteError::Cgroup { id: id.to_owned(), source }))?;
        if runs.is_empty() && connection::open(bundle).await.is_err() {
            return Ok(());
        }
        tracing::warn!(container = id, "ending what an earlier run of a container has left");
        let shim = bundle.to_owned();
        blocking(move || ShimProcess::end_of(&shim))
            .await
            .map_err(|source| left(DeleteError::Kill { id: id.to_owned(), source }))?;
        bundle::remove_remains(id, bundle, &cgroup).await.map_err(left)
    }

    async fn spawn_shim(
        &self,
        id: &str,
        bundle: &Path,
        root: Option<OwnedFd>,
    ) -> Result<(), CreateError> {
        let failed =
            |source| CreateError::Spawn { id: id.to_owned(), exe: self.exe.clone(), source };
        let handle = self.handle.get_or_try_init(async || {
            let exe = self.exe.clone();
            blocking(move || skep_sys::mounts::read_only(&exe)).await
        });
        let handle = handle.await.map_err(failed)?;
        let output = tokio::process::Command::new(format!("/proc/self/fd/{}", handle.as_raw_fd()))
            .arg0(&self.exe)
            .arg("shim")
            .arg(bundle)
            .env_clear()
            .stdin(root.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .await
            .map_err(failed)?;
        // The process we started has become the shim's parent and ended: the shim listens now.
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(CreateError::ShimFailed {
            id: id.to_owned(),
            output: format!("{said} ({})", output.status),
        })
    }
}

/// Nothing is left to clean up where there is nothing to read.
fn unknown(bundle: &Path, why: Option<io::Error>) -> Result<(), DeleteError> {
    why.map_or(Ok(()), |source| {
        Err(DeleteError::File { path: bundle.join(proto::CONFIG_FILE), source })
    })
}

/// What a shim says of its container's group, if it says anything.
async fn ask_cgroup(connection: &Connection) -> Option<PathBuf> {
    match tokio::time::timeout(FIRST_ANSWER, connection.ask(Command::State)).await {
        Ok(Ok(Reply::State(state))) => state.cgroup,
        _ => None,
    }
}

/// Completes the spec and derives the shim's settings from it.
fn prepare(request: &mut CreateRequest) -> Result<ShimConfig, CreateError> {
    let missing = |what| CreateError::Spec { id: request.id.clone(), what };
    let mut process = request.spec.process().clone().ok_or_else(|| missing("process"))?;
    process.set_terminal(Some(request.tty));
    let mut linux = request.spec.linux().clone().ok_or_else(|| missing("linux section"))?;
    let cgroup = match linux.cgroups_path() {
        Some(path) if path.is_absolute() => path.clone(),
        Some(_) => return Err(missing("absolute control group path")),
        None => PathBuf::from("/skep").join(&request.id),
    };
    linux.set_cgroups_path(Some(cgroup.clone()));
    let own_pid_namespace = linux
        .namespaces()
        .iter()
        .flatten()
        .any(|n| n.typ() == LinuxNamespaceType::Pid && n.path().is_none());
    request.spec.set_process(Some(process));
    request.spec.set_linux(Some(linux));
    Ok(ShimConfig {
        id: request.id.clone(),
        tty: request.tty,
        open_stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        console_size: request.console_size,
        log: request.log.clone(),
        cgroup,
        init: request.init,
        own_pid_namespace,
        attach_root: request.root.is_some(),
        leave_out: request.leave_out.clone(),
        layout: Some((*Layout::host()).clone()),
    })
}
