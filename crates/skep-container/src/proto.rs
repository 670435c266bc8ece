//! What daemon and shim say to each other, and what the shim leaves on disk.
//!
//! A connection carries messages: a little-endian `u32` length, then that many bytes of JSON. The
//! daemon sends [`Request`]s, each with a number of its choice; the shim answers each with a
//! [`FromShim::Reply`] of the same number, in any order (a `Wait` is answered when it is due), and
//! mixes in [`FromShim::Event`]s once `Subscribe` was asked. After the positive reply to `Attach`
//! the connection carries frames (`frame.rs`) instead. Descriptors for `Hold` travel with the first
//! byte of the message, those of `Fetch` with the first byte of its reply.
//!
//! A daemon newer than the shim must be able to talk to it (containers outlive upgrades), so fields
//! are only ever added, with defaults, and variants are never renamed.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::cgroup::Layout;

/// Longest message either side accepts, in bytes. A process list of a full machine fits.
pub const MAX_MESSAGE: usize = 4 << 20;

/// The shim's socket, in the bundle.
pub const SOCKET: &str = "shim.sock";
/// The exit status, in the bundle, once there is one: [`ExitStatus`] as JSON.
pub const EXIT_FILE: &str = "exit.json";
/// What the shim was started with, in the bundle: [`ShimConfig`] as JSON.
pub const CONFIG_FILE: &str = "shim.json";
/// The OCI spec, in the bundle.
pub const SPEC_FILE: &str = "config.json";

/// What a shim needs to know; written by the daemon before it starts one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShimConfig {
    /// The container's id, as libcontainer and the control group know it.
    pub id: String,
    /// Whether the init process gets a terminal instead of pipes.
    pub tty: bool,
    /// Whether standard input stays open for attached clients (else it reads as empty).
    pub open_stdin: bool,
    /// Whether the first attached client that closes its input closes the container's.
    pub stdin_once: bool,
    /// The terminal's first size.
    #[serde(default)]
    pub console_size: Option<Size>,
    /// Where the output is kept.
    pub log: LogConfig,
    /// Absolute control group path of the container, equal in every hierarchy.
    pub cgroup: PathBuf,
    /// Whether a tiny init stays between the kernel and the command.
    #[serde(default)]
    pub init: bool,
    /// Whether the init process has a PID namespace of its own (so that its end ends all others).
    pub own_pid_namespace: bool,
    /// Whether the shim finds the container's root as its standard input, a detached mount.
    #[serde(default)]
    pub attach_root: bool,
    /// Mounted folders that are left out of mount namespaces.
    #[serde(default)]
    pub leave_out: Vec<PathBuf>,
    /// Where control groups are mounted; looked at if it is not told.
    #[serde(default)]
    pub layout: Option<Layout>,
}

/// A terminal's size in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub cols: u16,
}

/// Where a container's output is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum LogConfig {
    /// Nowhere; attached clients still get it.
    None,
    /// Docker's `json-file` format.
    JsonFile(JsonFileConfig),
}

/// Settings of the `json-file` log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonFileConfig {
    /// The current file; rotated ones are `<path>.1` (newest) to `<path>.<max_files - 1>`.
    pub path: PathBuf,
    /// Size in bytes at which the file is rotated; `None`: never.
    pub max_size: Option<u64>,
    /// How many files there may be, the current one included; at least 1.
    pub max_files: u32,
    /// Extra attributes of every line (`attrs` in the file): labels and variables chosen by the user.
    #[serde(default)]
    pub attrs: Vec<(String, String)>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// 0–255; 128 plus the signal's number if one ended it; 127 or 126 if it could not be started.
    pub code: i32,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// Where in its life a container or exec process is. It only moves forward (pausing aside).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Set up, waiting for `start`.
    Created,
    Running,
    Paused,
    Exited,
}

/// What a shim knows of its container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub status: Status,
    /// The init process in the host's PID namespace; `None` once it has ended.
    pub pid: Option<i32>,
    /// The shim itself; `None` if it is gone and this was read from disk.
    pub shim_pid: Option<i32>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    pub exit: Option<ExitStatus>,
    /// Whether the kernel killed a process of it for want of memory so far.
    pub oom_killed: bool,
    /// Exec processes which were created and not yet removed.
    pub execs: Vec<ExecState>,
    /// The container's control group, as in [`ShimConfig`]; `None` if an older shim says this.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// What was asked and could not be done, in words (for instance a limit this host may not raise).
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What a shim knows of an exec process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecState {
    pub id: String,
    /// `Created`, `Running` or `Exited`.
    pub status: Status,
    /// In the host's PID namespace; kept after the end.
    pub pid: Option<i32>,
    pub exit: Option<ExitStatus>,
}

/// Something that happened to a container, as it happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Exited {
        status: ExitStatus,
    },
    ExecExited {
        exec: String,
        status: ExitStatus,
    },
    /// The kernel killed a process for want of memory.
    OutOfMemory,
}

/// Why a command could not be executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFailure {
    pub kind: ExecFailureKind,
    /// The first word of the command.
    pub command: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecFailureKind {
    /// No file of that name in any directory of PATH.
    NotInPath,
    /// The command names a path, and nothing is there.
    NoSuchFile,
    /// The file is there, and what it names to run it (a script's first line, a loader) is not.
    NoInterpreter,
    /// The file is there and may not be executed.
    PermissionDenied,
    /// The path is a directory.
    IsADirectory,
    /// The file is no program this kernel can run.
    BadFormat,
    /// execve failed otherwise, with this error number.
    Other(i32),
}

impl ExecFailure {
    /// The exit code that Docker gives a container that failed so: 127 or 126.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            ExecFailureKind::NotInPath
            | ExecFailureKind::NoSuchFile
            | ExecFailureKind::NoInterpreter => 127,
            _ => 126,
        }
    }
}

impl fmt::Display for ExecFailure {
    /// In the words that Docker's clients know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = &self.command;
        write!(f, "exec: {command:?}: ")?;
        match self.kind {
            ExecFailureKind::NotInPath => write!(f, "executable file not found in $PATH"),
            ExecFailureKind::NoSuchFile => write!(f, "stat {command}: no such file or directory"),
            ExecFailureKind::NoInterpreter => write!(
                f,
                "no such file or directory: it is there, but the interpreter or loader that it names is not"
            ),
            ExecFailureKind::PermissionDenied => write!(f, "permission denied"),
            ExecFailureKind::IsADirectory => write!(f, "is a directory"),
            ExecFailureKind::BadFormat => write!(f, "exec format error"),
            ExecFailureKind::Other(errno) => {
                f.write_str(&skep_types::errno_text(&std::io::Error::from_raw_os_error(errno)))
            }
        }
    }
}

impl std::error::Error for ExecFailure {}

/// A numbered question of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub seq: u64,
    pub body: Command,
}

/// What the daemon may ask of a shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Command {
    /// Set the container up (namespaces, mounts, control groups), up to before its first
    /// instruction. Answered with `Reply::Created`.
    Create,
    /// Run it. Answered when its program was executed, or failed to.
    Start,
    State,
    Kill {
        target: Target,
        signal: i32,
    },
    /// Signals every process of the control group.
    KillAll {
        signal: i32,
    },
    Pause,
    Resume,
    Resize {
        target: Target,
        size: Size,
    },
    /// Answered once the target has ended and its output was delivered.
    Wait {
        target: Target,
    },
    Attach {
        target: Target,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    ExecCreate {
        spec: Box<ExecSpec>,
    },
    ExecStart {
        id: String,
    },
    /// Forgets an exec process that has ended or never started.
    ExecRemove {
        id: String,
    },
    /// Keeps the descriptors that came with this message, under these names.
    Hold {
        names: Vec<String>,
    },
    /// Asks for held descriptors, by name; all of them if empty. The shim keeps its own copies.
    Fetch {
        names: Vec<String>,
    },
    /// Closes held descriptors.
    Release {
        names: Vec<String>,
    },
    Subscribe,
    /// Ends the shim. Refused while processes run, unless `force`, which kills them first.
    Shutdown {
        force: bool,
    },
}

/// The init process, or an exec process by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    Init,
    Exec(String),
}

/// An exec process to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub id: String,
    /// An OCI `process` object, opaque to the shim (its launcher reads it).
    pub process: serde_json::Value,
    pub tty: bool,
    pub open_stdin: bool,
    #[serde(default)]
    pub console_size: Option<Size>,
}

/// What a shim sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromShim {
    Reply { seq: u64, result: Result<Reply, Refusal> },
    Event { event: Event },
}

/// A positive answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Done,
    /// The process exists, with this pid in the host's PID namespace.
    Pid(i32),
    State(Box<State>),
    Exited(ExitStatus),
    /// Names of the descriptors that came with this reply, in order.
    Fds(Vec<String>),
}

/// A negative answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum Refusal {
    #[error("container is not created yet")]
    NotCreated,
    #[error("container is created already")]
    AlreadyCreated,
    #[error("container is not running")]
    NotRunning,
    #[error("container has been started before")]
    AlreadyStarted,
    #[error("container is paused")]
    Paused,
    #[error("container is not paused")]
    NotPaused,
    #[error("no exec process {id}")]
    NoSuchExec { id: String },
    #[error("exec process {id} exists")]
    ExecExists { id: String },
    #[error("exec process {id} has been started before")]
    ExecStarted { id: String },
    #[error("target has no terminal")]
    NoTerminal,
    #[error("no descriptor is held under the name {name}")]
    NotHeld { name: String },
    #[error("{names} names came with {fds} descriptors")]
    HoldMismatch { names: usize, fds: usize },
    #[error("{failure}")]
    Exec { failure: ExecFailure },
    /// The runtime could not set the process up.
    #[error("{message}")]
    Launch { message: String },
    /// An operation of the system failed.
    #[error("{what}: {message}")]
    System { what: String, message: String, errno: Option<i32> },
}
