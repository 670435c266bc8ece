//! Errors of the daemon's side.

use std::io;
use std::path::PathBuf;

use crate::proto::{ExecFailure, Refusal};

/// Talking to a shim failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The shim answered no. Nothing was changed.
    #[error("shim of container {id} refused {op}")]
    Refused {
        id: String,
        op: &'static str,
        #[source]
        reason: Refusal,
    },
    /// The shim is there and does not answer; the request may still take effect.
    #[error("shim of container {id} does not answer ({op}): it hangs or is stopped")]
    Hung { id: String, op: &'static str },
    /// The shim went away before it answered; whether the request took effect is unknown.
    #[error("shim of container {id} is gone")]
    Gone { id: String },
    #[error("could not talk to the shim of container {id} ({op})")]
    Io {
        id: String,
        op: &'static str,
        #[source]
        source: io::Error,
    },
    /// The shim's answer makes no sense.
    #[error("shim of container {id} answered {op} with something else")]
    Protocol { id: String, op: &'static str },
    /// A control group operation of the daemon itself failed.
    #[error("control group operation on container {id}")]
    Cgroup {
        id: String,
        #[source]
        source: crate::cgroup::CgroupError,
    },
}

impl ControlError {
    /// The shim's own words, if it refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            ControlError::Refused { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// A container could not be created. Nothing of it is left but the files in its bundle.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("could not write {path}")]
    Bundle {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("spec of container {id} has no {what}")]
    Spec { id: String, what: &'static str },
    /// Something of an earlier run goes on.
    #[error("could not end what an earlier run of container {id} left")]
    Left {
        id: String,
        #[source]
        source: Box<DeleteError>,
    },
    #[error("could not encode {what} of container {id}")]
    Encode {
        id: String,
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("could not start a shim ({exe}) for container {id}")]
    Spawn {
        id: String,
        exe: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The shim ended at once; `output` is what it said.
    #[error("shim for container {id} failed at start: {output}")]
    ShimFailed { id: String, output: String },
    /// The runtime could not set the container up (mounts, namespaces, control groups, …).
    #[error("could not set up container {id}: {message}")]
    Launch { id: String, message: String },
    #[error("could not create container {id}")]
    Control {
        id: String,
        #[source]
        source: ControlError,
    },
}

/// A created container or exec process could not be run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its command could not be executed. The process has ended with [`ExecFailure::exit_code`].
    #[error("could not execute the command of {id}")]
    Exec {
        id: String,
        #[source]
        failure: ExecFailure,
    },
    /// The runtime could not set the process up.
    #[error("could not set up process {id}: {message}")]
    Launch { id: String, message: String },
    #[error("could not start {id}")]
    Control {
        id: String,
        #[source]
        source: ControlError,
    },
}

/// No shim could be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a shim nor an exit status: never created here, or deleted.
    #[error("container {id} has no shim and no exit status in {bundle}")]
    Unknown { id: String, bundle: PathBuf },
    /// The shim was killed while the container ran. Its processes may still run, without stdio:
    /// [`crate::Runtime::clean_up`] ends them.
    #[error("container {id} has lost its shim")]
    ShimLost { id: String, bundle: PathBuf },
    /// Somebody listens in the bundle, whose files are gone, and does not say what for.
    #[error("the shim of container {id} does not answer, and its files in {bundle} cannot be read")]
    Mute { id: String, bundle: PathBuf },
    #[error("could not read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not connect to the shim of container {id}")]
    Io {
        id: String,
        #[source]
        source: io::Error,
    },
    #[error("could not talk to the shim of container {id}")]
    Control {
        id: String,
        #[source]
        source: ControlError,
    },
}

/// Something of a container could not be removed; the rest was.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("could not end the shim of container {id}")]
    Shim {
        id: String,
        #[source]
        source: ControlError,
    },
    #[error("could not kill the shim of container {id}, which does not answer")]
    Kill {
        id: String,
        #[source]
        source: io::Error,
    },
    #[error("could not remove the control groups of container {id}")]
    Cgroup {
        id: String,
        #[source]
        source: crate::cgroup::CgroupError,
    },
    #[error("could not remove {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
