//! The heavy part of starting a process, in a short-lived process of its own.
//!
//! The shim forks; the child runs libcontainer, which forks twice more (the last one becomes the
//! container's process), tells the shim the pid through a pipe ([`report`]), and exits, so that the
//! container's process is re-parented to the shim.
//!
//! libcontainer gets a spec from which everything was taken that it would do too early or not at all
//! ([`strip`]); [`Finish`] does that in the container's process right before execve.

mod command;
mod explain;
mod finish;
mod listen;
mod mounts;
pub(crate) mod report;
mod strip;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::{Process, Spec};
use skep_sys::files::{self, Durability};
use skep_types::errno_text;

pub(crate) use finish::{Finish, capability_number};
use report::{Report, Reporter};

use crate::cgroup::Cgroup;
use crate::proto::{self, ShimConfig};

/// Directory in the bundle for libcontainer's state and its form of the spec.
pub(crate) const STATE_DIR: &str = "runtime";

/// Where a new process gets its standard streams from.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// The process's ends.
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// A socket to which the master end of a new terminal is to be sent.
    Console(PathBuf),
}

/// Something failed before the process existed; a chain of causes in words.
type Failure = Box<dyn std::error::Error>;

/// Sets the container up and leaves its init process waiting. Runs in a process of its own, with the
/// bundle as working directory; the return value is its exit code.
pub(crate) fn create(
    config: &ShimConfig,
    root: Option<OwnedFd>,
    stdio: Stdio,
    report: OwnedFd,
) -> i32 {
    finish_launch(report, |reporter| {
        let (bundle, mut spec) = load_spec()?;
        let finish = Finish::of_spec(&spec, config.init, reporter.clone())?;
        strip::spec(&mut spec, &bundle, reporter);
        let namespaces = mounts::for_container(&mut spec, root, &config.leave_out)?;
        let resources = spec.linux().as_ref().and_then(|l| l.resources().clone());
        let resources = resources.unwrap_or_default();

        Cgroup::at(&config.cgroup).make_parents()?;
        let dir = bundle.join(STATE_DIR);
        files::make_dirs(&dir.join("state"), 0o700)?;
        write(&dir.join(proto::SPEC_FILE), &serde_json::to_vec(&spec)?)?;
        with_stdio(ContainerBuilder::new(config.id.clone(), SyscallType::default()), stdio)
            .with_executor(finish)
            .with_root_path(dir.join("state"))?
            .as_init(&dir)
            .with_systemd(false)
            .with_detach(true)
            .build()
            .map_err(Failure::from)
            .inspect_err(|_| {
                if let Some(message) = explain::explain(&spec) {
                    reporter.send(&Report::Explained { message });
                }
            })
            .and_then(|container| {
                let pid = container.pid().ok_or("the runtime tells no pid")?.as_raw();
                if !namespaces.is_empty() {
                    // Further processes find them where the first one has them.
                    mounts::name_namespaces(&mut spec, pid);
                    write(&dir.join(proto::SPEC_FILE), &serde_json::to_vec(&spec)?)?;
                }
                let group = Cgroup::at(&config.cgroup);
                let rules = resources.devices().as_deref().unwrap_or(&[]);
                let limited =
                    group.restrict_devices(rules).and_then(|()| group.correct(&resources));
                if let Err(error) = limited {
                    // The init process waits for its start and does not know of this failure.
                    group.kill_and_remove()?;
                    return Err(error.into());
                }
                Ok(pid)
            })
    })
}

/// Starts a further process in a running container. Runs like [`create`]; `number` is unique among
/// this shim's launches.
pub(crate) fn exec(
    config: &ShimConfig,
    process: &serde_json::Value,
    number: u64,
    stdio: Stdio,
    report: OwnedFd,
) -> i32 {
    finish_launch(report, |reporter| {
        let (bundle, spec) = load_spec()?;
        let mut process: Process = serde_json::from_value(process.clone())?;
        let finish = Finish::of_process(&process, &spec, reporter.clone())?;
        let terminal = matches!(stdio, Stdio::Console(_));
        strip::process(&mut process, terminal, reporter);
        mounts::for_exec(&config.leave_out)?;

        // A state directory of its own, since libcontainer leaves a socket per process behind.
        let dir = bundle.join(STATE_DIR);
        let root = dir.join(format!("exec-{number}"));
        let own = root.join(&config.id);
        files::make_dirs(&own, 0o700)?;
        // The runtime reads it, and would wait for what is no file.
        read(&dir.join(proto::SPEC_FILE))?;
        let state = read(&dir.join("state").join(&config.id).join("state.json"))?;
        let mut state: serde_json::Value = serde_json::from_slice(&state)?;
        // The shim starts containers without libcontainer, so what it wrote last is still there.
        state["status"] = "running".into();
        write(&own.join("state.json"), &serde_json::to_vec(&state)?)?;
        let process_file = root.join("process.json");
        write(&process_file, &serde_json::to_vec(&process)?)?;

        let built =
            with_stdio(ContainerBuilder::new(config.id.clone(), SyscallType::default()), stdio)
                .with_executor(finish)
                .with_root_path(&root)?
                .as_tenant()
                .with_detach(terminal)
                .with_process(Some(&process_file))
                .build();
        // It is removed with the bundle at the latest.
        if let Err(error) = files::remove_tree(&root) {
            reporter.warn(format!("could not remove {}: {error}", root.display()));
        }
        Ok(built?.as_raw())
    })
}

/// Runs a launch and reports how it went.
fn finish_launch(report: OwnedFd, launch: impl FnOnce(&Reporter) -> Result<i32, Failure>) -> i32 {
    let reporter = Reporter::new(report);
    listen::listen(&reporter);
    let (message, code) = match launch(&reporter) {
        Ok(pid) => (Report::Created { pid }, 0),
        Err(error) => (Report::Failed { message: chain(error.as_ref()) }, 1),
    };
    reporter.send(&message);
    code
}

/// An error and its causes, in one line, without those that repeat what was said.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

fn load_spec() -> Result<(PathBuf, Spec), Failure> {
    let bundle = std::env::current_dir()?;
    let spec = serde_json::from_slice(&read(Path::new(proto::SPEC_FILE))?)?;
    Ok((bundle, spec))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    files::read_existing(path).map_err(|error| {
        format!("could not read {}: {}", path.display(), errno_text(&error)).into()
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::replace(path, bytes, 0o600, Durability::Volatile).map_err(|error| {
        format!("could not write {}: {}", path.display(), errno_text(&error)).into()
    })
}

fn with_stdio(builder: ContainerBuilder, stdio: Stdio) -> ContainerBuilder {
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr)
        }
        Stdio::Console(path) => builder.with_console_socket(Some(path)),
    }
}
