//! What a caller hands in.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use crate::proto::{LogConfig, Size};

/// A container to create.
#[derive(Debug)]
pub struct CreateRequest {
    /// Unique on this host; names the control group and libcontainer's state.
    pub id: String,
    /// A directory of this container's own; made if missing. Holds spec, socket and exit status.
    pub bundle: PathBuf,
    /// The complete spec. `process.terminal` is overwritten by `tty`; without a cgroups path the
    /// container gets `/skep/<id>`.
    pub spec: Spec,
    /// Give the init process a terminal instead of pipes.
    pub tty: bool,
    /// Keep standard input open for attached clients; otherwise it is /dev/null.
    pub open_stdin: bool,
    /// The first attached client that closes its input closes the container's.
    pub stdin_once: bool,
    /// The terminal's first size.
    pub console_size: Option<Size>,
    pub log: LogConfig,
    /// Run the command under a tiny process 1 that reaps orphans and passes signals on (`--init`).
    /// Needs nothing in the container's root.
    pub init: bool,
    /// A detached mount that becomes the container's root: it is attached on the spec's root path,
    /// in the container's mount namespace only. Without one the path is taken as it is.
    pub root: Option<OwnedFd>,
    /// Mounted folders of which the container's set-up needs nothing but the namespaces it names.
    /// They are left out of its mount namespace from the beginning, with all that is mounted in
    /// them, unless one of its own mounts shows them.
    pub leave_out: Vec<PathBuf>,
}

/// A further process to run in a container.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Unique within the container.
    pub id: String,
    /// The complete process: arguments, environment, directory, user, capabilities.
    pub process: Process,
    pub tty: bool,
    pub open_stdin: bool,
    pub console_size: Option<Size>,
}
