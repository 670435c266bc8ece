//! That launches and ends come to an end.
//!
//! Who set a process up and has not become its program holds the report's pipe, so its end tells what became of a
//! launch. But the launcher may fail, or be killed, when the process that it made waits for a word of it already; and
//! whoever works on a launch may hang in a file system that does not answer. The first is noticed by the launcher's
//! end, whereupon all that hold the pipe are killed; the second by time, of which there is more than a busy host takes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::stat::fstat;
use nix::unistd::Pid;

use super::limit::{END, LOOK_AGAIN, Limit, STEP};
use super::note::note;
use super::process::Phase;
use super::server::{Ending, INIT, NOBODY, Number, Shim};
use crate::proto::{Refusal, Reply};

impl Shim {
    /// The process that this one is setting up.
    pub(super) fn launched_by(&self, launcher: i32) -> Option<Number> {
        let mut launches =
            self.processes.iter().filter_map(|(&n, p)| Some((n, p.launch.as_ref()?.launcher?)));
        launches.find(|&(_, pid)| pid == launcher).map(|(number, _)| number)
    }

    /// A launcher has ended. What it made without telling is nobody's.
    pub(super) fn launcher_ended(&mut self, number: Number, code: i32, signal: Option<i32>) {
        self.read_report(number);
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Some(launch) = &mut process.launch else { return };
        launch.launcher = None;
        if process.pid.is_some() {
            return;
        }
        launch.failure.get_or_insert_with(|| Refusal::Launch {
            message: match signal {
                Some(signal) => format!("the launcher was ended by signal {signal}"),
                None => format!("the launcher ended without a word (exit code {code})"),
            },
        });
        launch.limit = Limit::failed(Instant::now());
        self.end_orphans(number);
    }

    /// Ends launches that have had their time, and what is left of those that have failed.
    pub(super) fn review_launches(&mut self, now: Instant) {
        let due = self.processes.iter().filter_map(|(&number, process)| {
            let limit = process.launch.as_ref()?.limit;
            (limit.next()? <= now).then_some((number, limit))
        });
        for (number, limit) in due.collect::<Vec<_>>() {
            match limit {
                Limit::Failed(_, until) if until <= now => {
                    note(format_args!("processes of a launch that failed do not end"));
                    self.report_ended(number);
                }
                Limit::Failed(_, until) => {
                    if let Some(launch) =
                        self.processes.get_mut(&number).and_then(|p| p.launch.as_mut())
                    {
                        launch.limit = Limit::Failed(now + LOOK_AGAIN, until);
                    }
                    self.end_orphans(number);
                }
                Limit::Until(_) | Limit::None => self.end_launch(number, now),
            }
        }
    }

    /// A step has had its time.
    fn end_launch(&mut self, number: Number, now: Instant) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Some(launch) = &mut process.launch else { return };
        let (what, pid) = match process.pid {
            Some(pid) => ("its command was not executed", Some(pid)),
            None => ("it was not set up", launch.launcher),
        };
        let message = format!("{what} within {} seconds", STEP.as_secs());
        launch.failure.get_or_insert(Refusal::Launch { message });
        launch.limit = Limit::failed(now);
        if let Some(pid) = pid {
            // Its end is told, or it does not end.
            let _ = skep_sys::process::kill(pid, Signal::SIGKILL as i32);
        }
    }

    /// Kills what is left of a launch that has failed.
    fn end_orphans(&mut self, number: Number) {
        let Some(process) = self.processes.get(&number) else { return };
        let Some(launch) = &process.launch else { return };
        let killed = fstat(&launch.report)
            .map_err(io::Error::from)
            .and_then(|report| kill_writers(report.st_ino));
        if let Err(e) = killed {
            note(format_args!("could not look for processes of a launch that failed: {e}"));
        }
        // Nothing else may be in it before the container runs.
        if number == INIT
            && process.phase == Phase::Launching
            && let Err(e) = self.cgroup.signal_all(Signal::SIGKILL)
        {
            note(format_args!("could not end the container's processes: {e}"));
        }
    }

    /// Whether the daemon asked for the end, nothing runs any more, and it was told. It is told, too, when what runs
    /// does not end.
    pub(super) fn may_end(&mut self) -> bool {
        let Some(Ending { asker, until }) = self.ending else { return false };
        if !self.processes.values().any(|p| p.is_alive() || p.launch.is_some() || p.is_ending()) {
            self.reply(asker, Ok(Reply::Done), Vec::new());
            return true;
        }
        if until <= Instant::now() {
            if asker == NOBODY {
                self.ending = Some(Ending::begin(NOBODY));
                self.end_all();
            } else {
                self.ending = None;
                let message = format!("processes do not end within {} seconds", END.as_secs());
                let what = "could not end the container".to_owned();
                let refusal = Refusal::System { what, message, errno: None };
                self.reply(asker, Err(refusal), Vec::new());
            }
        }
        false
    }
}

/// Kills all processes but this one that can write to a pipe.
///
/// # Errors
/// When processes cannot be listed.
fn kill_writers(inode: u64) -> io::Result<()> {
    let pipe = format!("pipe:[{inode}]");
    let this = Pid::this().as_raw();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if pid != this && writes_to(pid, Path::new(&pipe)) {
            // One that has ended meanwhile is no failure.
            let _ = skep_sys::process::kill(pid, Signal::SIGKILL as i32);
        }
    }
    Ok(())
}

/// Whether a process has a pipe open for writing. (For reading, a launcher has it that was just forked.) One that has
/// ended has none.
fn writes_to(pid: i32, pipe: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().map(|descriptor| descriptor.path()).any(|link| {
        fs::read_link(&link).is_ok_and(|to| to == pipe)
            && fs::symlink_metadata(&link).is_ok_and(|found| found.mode() & 0o200 != 0)
    })
}
