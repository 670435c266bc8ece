//! A container's handle.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use tokio::sync::broadcast;

use super::attach::{AttachOptions, Attached};
use super::bundle;
use super::connection::{self, Connection, NoAnswer, is_gone};
use super::descriptors;
use super::requests::ExecRequest;
use super::shims::ShimProcess;
use crate::blocking::blocking;
use crate::cgroup::{Cgroup, CgroupError, Stats};
use crate::error::{ControlError, DeleteError, StartError};
use crate::proto::{
    Command, Event, ExecSpec, ExecState, ExitStatus, FromShim, Refusal, Reply, Request, Size,
    State, Status, Target,
};

/// A shim does most of what it is asked within a millisecond. One that takes longer is asked whether it
/// is there at all, and has as long again to say so.
const PATIENCE: Duration = Duration::from_secs(5);

/// A container and its shim. Cheap to clone; clones share one connection.
///
/// Dropping all clones does nothing to the container. All methods are cancel safe: a dropped call
/// may still take effect. A shim that hangs makes them fail with [`ControlError::Hung`] after ten
/// seconds; only the waits for an end go on, for that may yet come.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    bundle: PathBuf,
    cgroup: Cgroup,
    /// `None`: there is no shim any more, but an exit status.
    connection: Option<Arc<Connection>>,
}

impl Handle {
    pub(super) fn new(
        id: String,
        bundle: PathBuf,
        cgroup: Cgroup,
        connection: Option<Arc<Connection>>,
    ) -> Self {
        Handle { inner: Arc::new(Inner { id, bundle, cgroup, connection }) }
    }

    pub fn id(&self) -> &str {
        &self.inner.id
    }

    pub fn bundle(&self) -> &Path {
        &self.inner.bundle
    }

    /// The container's control groups, for reading and changing without the shim.
    pub fn cgroup(&self) -> &Cgroup {
        &self.inner.cgroup
    }

    /// Runs the created container. Returns once its program is executing.
    pub async fn start(&self) -> Result<(), StartError> {
        self.run("start", self.id().to_owned(), Command::Start).await.map(drop)
    }

    /// Sends a signal (a number) to the init process.
    pub async fn kill(&self, signal: i32) -> Result<(), ControlError> {
        self.done("kill", Command::Kill { target: Target::Init, signal }).await
    }

    /// Sends a signal to every process of the container.
    pub async fn kill_all(&self, signal: i32) -> Result<(), ControlError> {
        self.done("kill all", Command::KillAll { signal }).await
    }

    /// Freezes all processes.
    pub async fn pause(&self) -> Result<(), ControlError> {
        self.done("pause", Command::Pause).await
    }

    pub async fn resume(&self) -> Result<(), ControlError> {
        self.done("resume", Command::Resume).await
    }

    /// Waits until the init process has ended and its output was delivered. Any number of waiters.
    /// [`ControlError::Gone`] if the shim is killed before that.
    pub async fn wait(&self) -> Result<ExitStatus, ControlError> {
        match self.ask_for_long("wait", Command::Wait { target: Target::Init }).await {
            Ok(Reply::Exited(status)) => Ok(status),
            Ok(_) => Err(self.nonsense("wait")),
            Err(ControlError::Gone { id }) => match self.exit_on_disk("wait").await? {
                Some(status) => Ok(status),
                None => Err(ControlError::Gone { id }),
            },
            Err(e) => Err(e),
        }
    }

    /// What the shim knows; from disk if it is gone after the container's end.
    pub async fn state(&self) -> Result<State, ControlError> {
        match self.ask("state", Command::State).await {
            Ok(Reply::State(state)) => Ok(*state),
            Ok(_) => Err(self.nonsense("state")),
            Err(ControlError::Gone { id }) => match self.exit_on_disk("state").await? {
                Some(exit) => Ok(State {
                    status: Status::Exited,
                    pid: None,
                    shim_pid: None,
                    started_at: None,
                    oom_killed: exit.oom_killed,
                    exit: Some(exit),
                    execs: Vec::new(),
                    cgroup: None,
                    warnings: Vec::new(),
                }),
                None => Err(ControlError::Gone { id }),
            },
            Err(e) => Err(e),
        }
    }

    /// Sets the size of the init process's terminal.
    pub async fn resize(&self, size: Size) -> Result<(), ControlError> {
        self.done("resize", Command::Resize { target: Target::Init, size }).await
    }

    /// Attaches to the init process. Before `start` this misses nothing.
    pub async fn attach(&self, options: AttachOptions) -> Result<Attached, ControlError> {
        self.attach_to(Target::Init, options).await
    }

    /// Registers an exec process, so that it can be attached to before it runs.
    pub async fn exec_create(&self, request: ExecRequest) -> Result<(), ControlError> {
        let process =
            serde_json::to_value(&request.process).map_err(|e| self.io("exec create", e.into()))?;
        let spec = ExecSpec {
            id: request.id,
            process,
            tty: request.tty,
            open_stdin: request.open_stdin,
            console_size: request.console_size,
        };
        self.done("exec create", Command::ExecCreate { spec: Box::new(spec) }).await
    }

    /// Runs a created exec process; gives its pid on the host once its program is executing.
    pub async fn exec_start(&self, exec: &str) -> Result<i32, StartError> {
        match self
            .run("exec start", exec.to_owned(), Command::ExecStart { id: exec.to_owned() })
            .await?
        {
            Reply::Pid(pid) => Ok(pid),
            _ => Err(StartError::Control {
                id: exec.to_owned(),
                source: self.nonsense("exec start"),
            }),
        }
    }

    /// Attaches to an exec process, before or after its start.
    pub async fn exec_attach(
        &self,
        exec: &str,
        options: AttachOptions,
    ) -> Result<Attached, ControlError> {
        self.attach_to(Target::Exec(exec.to_owned()), options).await
    }

    pub async fn exec_resize(&self, exec: &str, size: Size) -> Result<(), ControlError> {
        self.done("exec resize", Command::Resize { target: Target::Exec(exec.to_owned()), size })
            .await
    }

    /// Sends a signal to an exec process.
    pub async fn exec_kill(&self, exec: &str, signal: i32) -> Result<(), ControlError> {
        self.done("exec kill", Command::Kill { target: Target::Exec(exec.to_owned()), signal })
            .await
    }

    /// Waits for the end of an exec process.
    pub async fn exec_wait(&self, exec: &str) -> Result<ExitStatus, ControlError> {
        let command = Command::Wait { target: Target::Exec(exec.to_owned()) };
        match self.ask_for_long("exec wait", command).await? {
            Reply::Exited(status) => Ok(status),
            _ => Err(self.nonsense("exec wait")),
        }
    }

    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecState, ControlError> {
        let refused = || ControlError::Refused {
            id: self.id().to_owned(),
            op: "exec inspect",
            reason: Refusal::NoSuchExec { id: exec.to_owned() },
        };
        self.state().await?.execs.into_iter().find(|e| e.id == exec).ok_or_else(refused)
    }

    /// Makes the shim forget an exec process that is over or never started.
    pub async fn exec_remove(&self, exec: &str) -> Result<(), ControlError> {
        self.done("exec remove", Command::ExecRemove { id: exec.to_owned() }).await
    }

    /// The container's processes in the host's PID namespace, in no order.
    pub async fn pids(&self) -> Result<Vec<i32>, ControlError> {
        self.with_cgroup(|group| group.pids()).await
    }

    /// What the container has used so far.
    pub async fn stats(&self) -> Result<Stats, ControlError> {
        self.with_cgroup(|group| group.stats()).await
    }

    /// Changes limits while it runs. What is not named stays as it is.
    pub async fn update(&self, resources: LinuxResources) -> Result<(), ControlError> {
        self.with_cgroup(move |group| group.update(&resources)).await
    }

    /// Lets the shim keep copies of these descriptors, so that they survive this process. A name
    /// that is held already is replaced. At most 64 at a time.
    pub async fn hold_fds(&self, fds: BTreeMap<String, OwnedFd>) -> Result<(), ControlError> {
        let (names, fds): (Vec<_>, Vec<_>) = fds.into_iter().unzip();
        self.exchange("hold", Command::Hold { names }, fds).await.map(drop)
    }

    /// Copies of held descriptors by name; of all that are held if `names` is empty.
    pub async fn fetch_fds(
        &self,
        names: &[&str],
    ) -> Result<BTreeMap<String, OwnedFd>, ControlError> {
        let names = names.iter().map(|&n| n.to_owned()).collect();
        match self.exchange("fetch", Command::Fetch { names }, Vec::new()).await? {
            (Reply::Fds(names), fds) if names.len() == fds.len() => {
                Ok(names.into_iter().zip(fds).collect())
            }
            _ => Err(self.nonsense("fetch")),
        }
    }

    /// Closes the shim's copies; unknown names are ignored.
    pub async fn release_fds(&self, names: &[&str]) -> Result<(), ControlError> {
        let names = names.iter().map(|&n| n.to_owned()).collect();
        self.done("release", Command::Release { names }).await
    }

    /// Events from now on. A subscriber that is more than 64 behind misses the oldest. The stream
    /// closes with the connection; what happened must then be read from [`Handle::state`].
    pub fn events(&self) -> broadcast::Receiver<Event> {
        match &self.inner.connection {
            Some(connection) => connection.events(),
            None => broadcast::channel(1).1,
        }
    }

    /// Ends the container if it runs (SIGKILL), its shim, its control groups, and removes what this
    /// crate put into the bundle. Logs stay. A shim that does not answer is killed. May be repeated
    /// after an error.
    pub async fn delete(&self) -> Result<(), DeleteError> {
        match self.done("shutdown", Command::Shutdown { force: true }).await {
            Ok(()) | Err(ControlError::Gone { .. }) => {}
            Err(ControlError::Hung { .. }) => self.kill_shim().await?,
            Err(source) => return Err(DeleteError::Shim { id: self.id().to_owned(), source }),
        }
        bundle::remove_remains(self.id(), self.bundle(), &self.inner.cgroup).await
    }

    /// Kills the shim, answering or not. What waits for the container's end learns that the shim is
    /// gone; [`Handle::delete`] then ends the container.
    pub async fn kill_shim(&self) -> Result<(), DeleteError> {
        tracing::warn!(container = self.id(), "killing a shim that does not answer");
        let bundle = self.inner.bundle.clone();
        blocking(move || ShimProcess::end_of(&bundle))
            .await
            .map_err(|source| DeleteError::Kill { id: self.id().to_owned(), source })
    }

    async fn run(
        &self,
        op: &'static str,
        what: String,
        command: Command,
    ) -> Result<Reply, StartError> {
        match self.ask(op, command).await {
            Ok(reply) => Ok(reply),
            Err(ControlError::Refused { reason: Refusal::Exec { failure }, .. }) => {
                Err(StartError::Exec { id: what, failure })
            }
            Err(ControlError::Refused { reason: Refusal::Launch { message }, .. }) => {
                Err(StartError::Launch { id: what, message })
            }
            Err(source) => Err(StartError::Control { id: what, source }),
        }
    }

    pub(super) async fn done(
        &self,
        op: &'static str,
        command: Command,
    ) -> Result<(), ControlError> {
        match self.ask(op, command).await? {
            Reply::Done => Ok(()),
            _ => Err(self.nonsense(op)),
        }
    }

    /// Asks what a shim that is well answers soon, or at least while it answers other things.
    pub(super) async fn ask(
        &self,
        op: &'static str,
        command: Command,
    ) -> Result<Reply, ControlError> {
        let mut answer = std::pin::pin!(self.ask_for_long(op, command));
        loop {
            if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut answer).await {
                return answer;
            }
            // It may be at work: to set a container up takes long on a busy host.
            let probe = self.ask_for_long("state", Command::State);
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                well = tokio::time::timeout(PATIENCE, probe) => if well.is_err() {
                    return Err(ControlError::Hung { id: self.id().to_owned(), op });
                },
            }
        }
    }

    /// Asks, and waits for the answer as long as the shim is there.
    async fn ask_for_long(
        &self,
        op: &'static str,
        command: Command,
    ) -> Result<Reply, ControlError> {
        let Some(connection) = &self.inner.connection else {
            return Err(ControlError::Gone { id: self.id().to_owned() });
        };
        connection.ask(command).await.map_err(|e| match e {
            NoAnswer::Refused(reason) => {
                ControlError::Refused { id: self.id().to_owned(), op, reason }
            }
            NoAnswer::Gone => ControlError::Gone { id: self.id().to_owned() },
            NoAnswer::Encode(e) => self.io(op, e.into()),
        })
    }

    async fn attach_to(
        &self,
        target: Target,
        options: AttachOptions,
    ) -> Result<Attached, ControlError> {
        // Attaching is done as soon as it is read.
        tokio::time::timeout(PATIENCE * 2, self.attach_unlimited(target, options))
            .await
            .unwrap_or_else(|_| Err(ControlError::Hung { id: self.id().to_owned(), op: "attach" }))
    }

    async fn attach_unlimited(
        &self,
        target: Target,
        options: AttachOptions,
    ) -> Result<Attached, ControlError> {
        use tokio::io::AsyncWriteExt;
        const OP: &str = "attach";
        let AttachOptions { stdin, stdout, stderr } = options;
        let body = Command::Attach { target, stdin, stdout, stderr };
        let message =
            connection::encode(&Request { seq: 0, body }).map_err(|e| self.io(OP, e.into()))?;
        let mut stream = match connection::open(self.bundle()).await {
            Ok(stream) => stream,
            Err(e) if is_gone(&e) => return Err(ControlError::Gone { id: self.id().to_owned() }),
            Err(e) => return Err(self.io(OP, e)),
        };
        stream.write_all(&message).await.map_err(|e| self.io(OP, e))?;
        match connection::read_message(&mut stream).await.map_err(|e| self.io(OP, e))? {
            Some(FromShim::Reply { result: Ok(Reply::Done), .. }) => Ok(Attached::new(stream)),
            Some(FromShim::Reply { result: Err(reason), .. }) => {
                Err(ControlError::Refused { id: self.id().to_owned(), op: OP, reason })
            }
            Some(_) => Err(self.nonsense(OP)),
            None => Err(ControlError::Gone { id: self.id().to_owned() }),
        }
    }

    async fn exchange(
        &self,
        op: &'static str,
        command: Command,
        fds: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), ControlError> {
        let bundle = self.inner.bundle.clone();
        let answer = blocking(move || descriptors::exchange(&bundle, command, &fds)).await;
        match answer {
            Ok((Ok(reply), fds)) => Ok((reply, fds)),
            Ok((Err(reason), _)) => {
                Err(ControlError::Refused { id: self.id().to_owned(), op, reason })
            }
            Err(e) if is_gone(&e) => Err(ControlError::Gone { id: self.id().to_owned() }),
            // A timeout of the socket.
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(ControlError::Hung { id: self.id().to_owned(), op })
            }
            Err(e) => Err(self.io(op, e)),
        }
    }

    async fn with_cgroup<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Cgroup) -> Result<T, CgroupError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let group = self.inner.cgroup.clone();
        blocking(move || f(&group))
            .await
            .map_err(|source| ControlError::Cgroup { id: self.id().to_owned(), source })
    }

    async fn exit_on_disk(&self, op: &'static str) -> Result<Option<ExitStatus>, ControlError> {
        bundle::read_exit(self.bundle()).await.map_err(|e| self.io(op, e))
    }

    fn io(&self, op: &'static str, source: io::Error) -> ControlError {
        ControlError::Io { id: self.id().to_owned(), op, source }
    }

    fn nonsense(&self, op: &'static str) -> ControlError {
        ControlError::Protocol { id: self.id().to_owned(), op }
    }
}
