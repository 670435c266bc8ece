//! One OCI spec to one process, under a shim that outlives the daemon.
//!
//! ```text
//!  daemon (tokio)                      shim (one per container, no runtime)         container
//!  Runtime ──spawns `skep shim`──▶  listens on <bundle>/shim.sock
//!  Handle  ◀──typed JSON messages──▶  poll loop ──forks──▶ short-lived launcher ──▶ init process
//!  Attached ◀──framed bytes───────▶  stdio fan-out ◀──────pipes or terminal──────▶  its stdio
//!  logs::read ◀──────files────────  json-file log
//! ```
//!
//! **Promises.** A container does not notice the death of the daemon at any moment: the shim is in
//! its own session and control group, owns the stdio, log and exit status, and a later
//! [`Runtime::connect`] learns everything from it. The exit status is on disk (`exit.json`, written
//! aside and renamed) before anyone is told. A failed start says what was not found, in a form from
//! which the Docker wording and exit code follow ([`ExecFailure`]).
//!
//! **Shape.** The shim stays small because the heavy part never runs in it: a forked child
//! (`shim::launch`) runs libcontainer, reports, and exits; the container's init process is then
//! re-parented to the shim, which is a child subreaper. The last steps before execve (limits,
//! seccomp filter, user, capabilities) are ours, in `launch::Finish`: libcontainer without
//! libseccomp cannot install the filter, and where it fails hard on a missing CAP_SYS_RESOURCE we
//! degrade with a warning.
//!
//! **A client that does not read** cannot stop a container for ever. Output is delivered to every
//! attached client without loss while they read; when one stops, at most 256 KiB wait for it, then
//! the container blocks as on any full pipe, and after 60 s without a single byte taken that client
//! is cut off (the log has everything).
//!
//! Rootless user namespaces are out of scope.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod blocking;
pub mod cgroup;
mod client;
mod error;
mod frame;
mod init;
mod launch;
pub mod logs;
pub mod proto;
pub mod seccomp;
pub mod shim;
pub mod spec;

pub use client::{
    AttachOptions, AttachStdin, Attached, CreateRequest, ExecRequest, Handle, OutputStream,
    Runtime, ShimProcess,
};
pub use error::{ConnectError, ControlError, CreateError, DeleteError, StartError};
pub use frame::StdStream;
pub use proto::{
    Event, ExecFailure, ExecFailureKind, ExecState, ExitStatus, JsonFileConfig, LogConfig, Size,
    State, Status,
};
