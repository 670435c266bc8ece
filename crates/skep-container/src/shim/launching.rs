//! Starting processes: forking launchers and following their reports.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use time::OffsetDateTime;

use super::limit::Limit;
use super::process::{Asker, Launch, Phase};
use super::server::{INIT, Number, Shim};
use super::stdio::{NewStdio, unblocked};
use crate::cgroup::OomWatch;
use crate::launch::report::{Collector, Report};
use crate::launch::{self, STATE_DIR};
use crate::logs::Writer;
use crate::proto::{ExitStatus, LogConfig, Refusal, Reply};

impl Shim {
    /// Sets the container up, to before its first instruction.
    pub(super) fn create(&mut self, asker: Asker) -> Result<(), Refusal> {
        if self.processes[&INIT].phase != Phase::New {
            return Err(Refusal::AlreadyCreated);
        }
        if let LogConfig::JsonFile(config) = &self.config.log {
            let log = Writer::open(config.clone());
            self.log = Some(log.map_err(|e| {
                refusal(&format!("could not open log {}", config.path.display()), &e)
            })?);
        }
        self.launch(INIT, asker, None).map_err(|e| refusal("could not launch", &e))
    }

    /// Runs the created container.
    pub(super) fn start(&mut self, asker: Asker) -> Result<(), Refusal> {
        let path = Path::new(STATE_DIR).join("state").join(&self.config.id).join("notify.sock");
        let Some(process) = self.processes.get_mut(&INIT) else { return Err(Refusal::NotCreated) };
        match process.phase {
            Phase::Created => {}
            Phase::New | Phase::Launching => return Err(Refusal::NotCreated),
            _ => return Err(Refusal::AlreadyStarted),
        }
        // Without it the process is gone, which is just being told.
        let Some(launch) = &mut process.launch else { return Err(Refusal::NotRunning) };
        // libcontainer's init process waits for any message here and goes on at its end.
        UnixStream::connect(path)
            .and_then(|mut socket| socket.write_all(b"start"))
            .map_err(|e| refusal("could not start the init process", &e))?;
        process.phase = Phase::Starting;
        launch.asker = Some(asker);
        launch.limit = Limit::begin();
        Ok(())
    }

    /// Starts an exec process.
    pub(super) fn exec(
        &mut self,
        number: Number,
        process: serde_json::Value,
        asker: Asker,
    ) -> Result<(), Refusal> {
        self.launch(number, asker, Some(process)).map_err(|e| refusal("could not launch", &e))
    }

    fn launch(
        &mut self,
        number: Number,
        asker: Asker,
        exec: Option<serde_json::Value>,
    ) -> io::Result<()> {
        let process = &self.processes[&number];
        let NewStdio { ours, theirs } = if process.tty {
            NewStdio::terminal(number)?
        } else {
            NewStdio::pipes(process.open_stdin)?
        };
        let (report, write) = pipe2(OFlag::O_CLOEXEC)?;
        let report = unblocked(report)?;
        // From here on only the launcher holds it: what it does not attach goes with it.
        let root = self.root.take_if(|_| exec.is_none());
        let launcher = skep_sys::process::fork_single_threaded(|| {
            self.release_in_launcher();
            match exec {
                None => launch::create(&self.config, root, theirs, write),
                Some(process) => launch::exec(&self.config, &process, number, theirs, write),
            }
        })?;
        if let Some(process) = self.processes.get_mut(&number) {
            process.stdio = ours;
            process.phase = Phase::Launching;
            process.launch = Some(Launch {
                launcher: Some(launcher.as_raw()),
                report,
                collector: Collector::default(),
                asker: Some(asker),
                failure: None,
                details: Vec::new(),
                limit: Limit::begin(),
            });
        }
        Ok(())
    }

    /// Reads what a launcher or a process-to-be reports.
    pub(super) fn read_report(&mut self, number: Number) {
        let mut chunk = [0; 4096];
        loop {
            let Some(launch) = self.processes.get_mut(&number).and_then(|p| p.launch.as_mut())
            else {
                return;
            };
            match nix::unistd::read(&launch.report, &mut chunk) {
                Ok(0) => return self.report_ended(number),
                Ok(count) => {
                    for report in launch.collector.push(&chunk[..count]) {
                        self.take_report(number, report);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => return self.report_ended(number),
            }
        }
    }

    fn take_report(&mut self, number: Number, report: Report) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Some(launch) = &mut process.launch else { return };
        match report {
            Report::Warning { text } => self.warn(text),
            Report::Detail { text } => launch.details.push(text),
            Report::Explained { message } => launch.failure = Some(Refusal::Launch { message }),
            Report::Failed { message } => {
                let message = launch.details.first().cloned().unwrap_or(message);
                launch.failure.get_or_insert(Refusal::Launch { message });
            }
            Report::NotExecuted { failure } => launch.failure = Some(Refusal::Exec { failure }),
            Report::Created { pid } => {
                process.pid = Some(pid);
                if let Err(e) = process.stdio.receive_terminal(process.size) {
                    self.warn(format!("could not receive the terminal: {e}"));
                }
                if number == INIT {
                    self.created(pid);
                }
            }
        }
    }

    /// The init process exists and waits.
    fn created(&mut self, pid: i32) {
        match OomWatch::new(&self.cgroup) {
            Ok(watch) => self.oom = watch,
            // The kills are still counted at the end.
            Err(e) => self.warn(format!("cannot watch for kills by lack of memory: {e}")),
        }
        let Some(process) = self.processes.get_mut(&INIT) else { return };
        process.phase = Phase::Created;
        process.write_input();
        let asker = process.launch.as_mut().and_then(|launch| {
            // Until its start, which comes when its network is there.
            launch.limit = Limit::None;
            launch.asker.take()
        });
        if let Some(asker) = asker {
            self.reply(asker, Ok(Reply::Pid(pid)), Vec::new());
        }
        if self.ending.is_some() {
            self.end_all();
        }
    }

    /// The report's last holder is gone: the program runs, or nothing does.
    pub(super) fn report_ended(&mut self, number: Number) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Some(launch) = process.launch.take() else { return };
        let result = match (launch.failure, process.pid) {
            (Some(refusal), _) => Err(refusal),
            (None, Some(pid)) if process.phase == Phase::Created => {
                // Killed before it was started; its end is being told.
                let _ = pid;
                Err(Refusal::NotRunning)
            }
            (None, Some(pid)) => Ok(pid),
            (None, None) => {
                Err(Refusal::Launch { message: "the launcher ended without a word".into() })
            }
        };
        match &result {
            Ok(_) => {
                process.phase = Phase::Running;
                process.write_input();
                if number == INIT {
                    self.started_at = Some(OffsetDateTime::now_utc());
                }
            }
            Err(refusal) if process.pid.is_none() => {
                let code = match refusal {
                    Refusal::Exec { failure } => failure.exit_code(),
                    _ => 128,
                };
                let finished_at = OffsetDateTime::now_utc();
                process.end(ExitStatus { code, signal: None, oom_killed: false, finished_at });
            }
            // The process ends by itself and is collected.
            Err(_) => {}
        }
        if let Some(asker) = launch.asker {
            let reply = match (number, result) {
                (INIT, Ok(_)) => Ok(Reply::Done),
                (_, result) => result.map(Reply::Pid),
            };
            self.reply(asker, reply, Vec::new());
        }
    }
}

/// A failed system call as an answer.
pub(super) fn refusal(what: &str, e: &io::Error) -> Refusal {
    Refusal::System { what: what.to_owned(), message: e.to_string(), errno: e.raw_os_error() }
}
