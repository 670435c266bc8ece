//! The shim: one small process per container that owns everything the daemon must not lose.
//!
//! One thread, one poll loop (`server`), no async runtime: what it keeps in memory is what it must
//! remember. Heavy work (libcontainer) happens in forked children (`crate::launch`).
//!
//! It ends only by the daemon's `Shutdown`, or when the daemon goes away (or never comes) before it
//! gave its go-ahead: a container that was not started is nobody's. It blocks the signals by which services are stopped, runs
//! in a session of its own, and leaves the service's control group, so that neither `kill -9` of the
//! daemon nor a service manager stopping it ends a container.
//!
//! To add a request: a variant in [`crate::proto::Command`], an arm in `requests`, a method on
//! [`crate::Handle`].

mod client;
mod connection;
mod exits;
mod launching;
mod limit;
mod note;
mod overdue;
mod process;
mod requests;
mod server;
mod stdio;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use skep_sys::files;

use crate::cgroup::Layout;
use crate::proto::{self, ShimConfig};
use note::note;
use server::Shim;

/// What a shim says when something is wrong with itself, in the bundle.
pub(crate) const LOG_FILE: &str = "shim.log";

/// Control group of all shims, in the hierarchies by which service managers know processes.
const OWN_GROUP: &str = "skep-shim";

/// Why a shim could not start.
#[derive(Debug, thiserror::Error)]
enum StartupError {
    #[error("usage: shim BUNDLE")]
    Usage,
    #[error("could not use {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not read {path}")]
    Config {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("could not {what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Runs a shim for the bundle named by `args` (the arguments after `shim`).
///
/// Must be called before any thread is started. Returns success in the calling process once the shim,
/// which is a child of it, listens; a failure before that is on standard error.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            note(format_args!("{text}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: impl IntoIterator<Item = OsString>) -> Result<(), StartupError> {
    let mut args = args.into_iter();
    let (Some(bundle), None) = (args.next(), args.next()) else { return Err(StartupError::Usage) };
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| StartupError::File { path, source }
    };
    let system = |what| move |source: io::Error| StartupError::System { what, source };

    // From here on all paths are relative to the bundle: socket addresses are limited in length.
    std::env::set_current_dir(&bundle).map_err(file(Path::new(&bundle)))?;
    let config = Path::new(proto::CONFIG_FILE);
    let bytes = files::read_existing(config).map_err(file(config))?;
    let mut config: ShimConfig = serde_json::from_slice(&bytes)
        .map_err(|source| StartupError::Config { path: config.to_owned(), source })?;
    if let Some(layout) = config.layout.take() {
        layout.is_told();
    }
    umask(Mode::from_bits_truncate(0o022));
    let root = match config.attach_root {
        true => Some(io::stdin().as_fd().try_clone_to_owned().map_err(system("keep the root"))?),
        false => None,
    };
    let socket = Path::new(proto::SOCKET);
    let listener = UnixListener::bind(socket).map_err(file(socket))?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(file(Path::new("/dev/null")))?;
    let log = Path::new(LOG_FILE);
    let log = files::open_append(log, 0o600).map_err(file(log))?;

    skep_sys::process::fork_single_threaded(|| run(config, root, listener, null, log))
        .map_err(system("fork"))?;
    Ok(())
}

/// The shim process itself. Errors go to the log in the bundle.
fn run(
    config: ShimConfig,
    root: Option<OwnedFd>,
    listener: UnixListener,
    null: File,
    log: File,
) -> i32 {
    let set_up = || -> io::Result<()> {
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&log)?;
        drop((null, log));
        setsid()?;
        nix::sys::prctl::set_child_subreaper(true)?;
        nix::sys::prctl::set_name(c"skep-shim")?;
        Ok(())
    };
    if let Err(e) = set_up() {
        note(format_args!("could not set up: {e}"));
        return 1;
    }
    leave_service_group();
    match Shim::new(config, root, listener).and_then(Shim::run) {
        Ok(()) => 0,
        Err(e) => {
            note(format_args!("ended by an error: {e}"));
            1
        }
    }
}

/// Moves this process out of the control group of the daemon's service, unless it is in the root.
fn leave_service_group() {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let layout = Layout::host();
    for point in layout.of_service_manager() {
        let unified = layout.unified() == Some(point);
        let prefix = if unified { "0::" } else { "name=systemd:" };
        let here = membership
            .lines()
            .find_map(|line| line.find(prefix).map(|at| &line[at + prefix.len()..]));
        if matches!(here, None | Some("/")) {
            continue;
        }
        let group = point.join(OWN_GROUP);
        let moved = files::make_dirs(&group, 0o755)
            .and_then(|()| files::set_kernel(&group.join("cgroup.procs"), "0"));
        if let Err(e) = moved {
            note(format_args!("could not move to {}: {e}", group.display()));
        }
    }
}
