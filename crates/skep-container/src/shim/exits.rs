//! Ends of processes.

use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use skep_sys::files::{Durability, replace};
use time::OffsetDateTime;

use super::note::note;
use super::process::{Phase, Process};
use super::server::{INIT, Number, Shim};
use crate::frame::StdStream;
use crate::proto::{EXIT_FILE, Event, ExitStatus, Reply};

impl Process {
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(..))
    }
}

impl Shim {
    /// Collects everything that has ended: launchers, our processes, and orphans of the container.
    pub(super) fn reap(&mut self) {
        // A launcher reports its process's pid before it ends, and only its end makes that process
        // our child: with all reports read first, every process of ours is known by its pid.
        let numbers: Vec<Number> = self.processes.keys().copied().collect();
        for number in numbers {
            self.read_report(number);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid.as_raw(), code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.ended(pid.as_raw(), 128 + signal as i32, Some(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn ended(&mut self, pid: i32, code: i32, signal: Option<i32>) {
        if let Some(number) = self.launched_by(pid) {
            return self.launcher_ended(number, code, signal);
        }
        let owner = self
            .processes
            .iter()
            .find(|(_, p)| p.pid == Some(pid) && p.is_alive())
            .map(|(&n, _)| n);
        let Some(number) = owner else { return };
        self.count_oom_kills();
        let oom_killed = self.oom_kills > 0;
        let status =
            ExitStatus { code, signal, oom_killed, finished_at: OffsetDateTime::now_utc() };
        // Whatever it held of the report is gone now.
        self.read_report(number);
        if let Some(process) = self.processes.get_mut(&number) {
            process.end(status);
        }
        if number == INIT && !self.config.own_pid_namespace {
            // No kernel does it for us: others may live on and hold the output open.
            if let Err(e) = self.cgroup.signal_all(Signal::SIGKILL) {
                self.warn(format!("could not end the container's other processes: {e}"));
            }
        }
        for stream in [StdStream::Stdout, StdStream::Stderr] {
            self.read_output(number, stream, usize::MAX);
        }
    }

    /// Completes the end of processes whose output has been read.
    pub(super) fn finish_ended(&mut self, now: Instant) {
        let ready: Vec<Number> =
            self.processes.iter().filter(|(_, p)| p.is_drained(now)).map(|(&n, _)| n).collect();
        for number in ready {
            for stream in [StdStream::Stdout, StdStream::Stderr] {
                self.read_output(number, stream, usize::MAX);
            }
            // That may have filled a client up again.
            if self.processes.get(&number).is_some_and(|p| p.is_drained(now)) {
                self.finish(number);
            }
        }
    }

    fn finish(&mut self, number: Number) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Phase::Ending(status, _) = std::mem::replace(&mut process.phase, Phase::Exited) else {
            return;
        };
        process.exit = Some(status.clone());
        process.stdio.forget_terminal();
        process.stdio = Default::default();
        let waiters = std::mem::take(&mut process.waiters);
        if number == INIT {
            if let Err(e) = process.finish_log(&mut self.log) {
                self.warn(format!("output is missing in the log: {e}"));
            }
            self.log = None;
            self.oom = None;
            self.paused = false;
            let stored = serde_json::to_vec(&status).map_err(std::io::Error::from);
            if let Err(e) = stored.and_then(|bytes| {
                // After a power loss the container is gone with it.
                replace(EXIT_FILE.as_ref(), &bytes, 0o600, Durability::Volatile)
            }) {
                note(format_args!("could not store the exit status: {e}"));
            }
        }
        for asker in waiters {
            self.reply(asker, Ok(Reply::Exited(status.clone())), Vec::new());
        }
        let event = match self.execs.iter().find(|&(_, &n)| n == number) {
            Some((id, _)) => Event::ExecExited { exec: id.clone(), status },
            None => Event::Exited { status },
        };
        self.tell(&event);
    }
}
