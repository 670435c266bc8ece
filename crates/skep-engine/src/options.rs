//! Parameters and results of operations for which the API's models have no type.

use std::pin::Pin;

use bollard_stubs::models::ContainerStatsResponse;
use bytes::Bytes;
use futures::Stream;
use skep_container::StdStream;
use time::OffsetDateTime;
use tokio::io::AsyncWrite;

use crate::error::Result;
use crate::filters::Filters;

/// A boxed stream of results.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;
/// Bytes of a body, in order. An error ends it.
pub type ByteStream = BoxStream<Result<Bytes>>;
/// Output of a process: which stream, and bytes.
pub type OutputStream = BoxStream<Result<(StdStream, Bytes)>>;
/// One [`ContainerStatsResponse`] after the other, about one each second.
pub type StatsStream = BoxStream<Result<ContainerStatsResponse>>;
/// Input of a process. `shutdown` says that no more will come.
pub type InputWriter = Pin<Box<dyn AsyncWrite + Send>>;

/// A process's streams, joined.
pub struct AttachSession {
    /// Whether the process has a terminal: then output is raw, else it is to be multiplexed.
    pub tty: bool,
    /// Output; ends with the process. Empty at once when no output was asked for.
    pub output: OutputStream,
    /// Input, if it was asked for and the process has one.
    pub input: Option<InputWriter>,
}

/// What to attach to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Replay the log first.
    pub logs: bool,
    /// Stay for what comes. Without it the session ends after the log.
    pub stream: bool,
    /// Input too.
    pub stdin: bool,
    /// Standard output too.
    pub stdout: bool,
    /// Standard error too.
    pub stderr: bool,
}

/// Which containers `list` gives.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Stopped ones too.
    pub all: bool,
    /// Only the newest so many, running or not.
    pub limit: Option<usize>,
    /// Measure `SizeRw` and `SizeRootFs`.
    pub size: bool,
    /// `id name label label! status exited ancestor before since volume network publish expose health is-task`.
    pub filters: Filters,
}

/// How to stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Signal name or number; the container's own when `None`.
    pub signal: Option<String>,
    /// Seconds to wait before SIGKILL; negative waits for ever; the container's own when `None`.
    pub timeout: Option<i64>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// Remove a link instead. Links are not served.
    pub link: bool,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Returns at once if it does not run.
    #[default]
    NotRunning,
    /// The next end of it, even if it does not run now.
    NextExit,
    /// Its removal.
    Removed,
}

impl WaitCondition {
    /// Reads the query parameter; empty is `not-running`.
    ///
    /// # Errors
    /// `Invalid` for other words.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(crate::EngineError::Invalid(format!("invalid condition: {other:?}"))),
        }
    }
}

/// Which log lines.
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Stay for what comes.
    pub follow: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Put the log attributes before each line.
    pub details: bool,
    /// Only the last so many lines; all when `None`.
    pub tail: Option<usize>,
    /// Only lines written at or after this.
    pub since: Option<OffsetDateTime>,
    /// Only lines written at or before this.
    pub until: Option<OffsetDateTime>,
}

/// Log output.
pub struct LogsSession {
    /// Whether the container has a terminal: then output is raw, else it is to be multiplexed.
    pub tty: bool,
    /// Whole lines, newline included, with what [`LogsOptions`] asked to put before them.
    pub output: OutputStream,
}

/// How to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsOptions {
    /// Go on until the container is gone.
    pub stream: bool,
    /// Do not wait a second for an earlier sample to compare with (only without `stream`).
    pub one_shot: bool,
}

/// How to start an exec process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecStartOptions {
    /// Return once it runs, without streams.
    pub detach: bool,
    /// The terminal's first size.
    pub size: Option<skep_container::Size>,
}

/// What `X-Docker-Container-Path-Stat` tells about a path.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PathStat {
    /// Last part of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode`: permission bits with the kind in the high bits.
    pub mode: u32,
    /// RFC 3339 time of the last change.
    pub mtime: String,
    /// Where a symbolic link leads, resolved within the container; else empty.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

/// How to unpack an archive into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutArchiveOptions {
    /// Refuse to replace a directory by something else and the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user (if it names one) instead of the archive's owners.
    pub copy_uid_gid: bool,
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventsOptions {
    /// From this time, as far as the backlog of 256 reaches; only new ones when `None`.
    pub since: Option<OffsetDateTime>,
    /// The stream ends at this time.
    pub until: Option<OffsetDateTime>,
    /// `type event scope` and by name or id `container image volume network daemon label …`.
    pub filters: Filters,
}
