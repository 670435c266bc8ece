//! What the daemon asks, arm by arm.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::client::Client;
use super::launching::refusal;
use super::note::note;
use super::process::{Asker, Phase, Process};
use super::server::{Ending, INIT, Number, Shim};
use crate::proto::{Command, ExecSpec, ExecState, Refusal, Reply, Request, State, Status, Target};

/// What an arm gives: an answer now, or later by somebody else.
type Answer = Result<Option<Reply>, Refusal>;

const DONE: Answer = Ok(Some(Reply::Done));

impl Shim {
    pub(super) fn answer(&mut self, connection: u64, request: Request) {
        let asker = (connection, request.seq);
        let answer = match request.body {
            Command::Create => self.create(asker).map(|()| None),
            Command::Start => self.start(asker).map(|()| None),
            Command::State => Ok(Some(Reply::State(Box::new(self.state())))),
            Command::Kill { target, signal } => self.kill(&target, signal),
            Command::KillAll { signal } => self.kill_all(signal),
            Command::Pause => self.pause(),
            Command::Resume => self.resume(),
            Command::Resize { target, size } => self.resize(&target, size),
            Command::Wait { target } => self.wait_for(&target, asker),
            Command::Attach { target, stdin, stdout, stderr } => {
                self.attach(&target, (stdin, stdout, stderr), asker)
            }
            Command::ExecCreate { spec } => self.exec_create(*spec),
            Command::ExecStart { id } => self.exec_start(&id, asker),
            Command::ExecRemove { id } => self.exec_remove(&id),
            Command::Hold { names } => self.hold(connection, names),
            Command::Fetch { names } => return self.fetch(&names, asker),
            Command::Release { names } => {
                names.iter().for_each(|name| drop(self.held.remove(name)));
                DONE
            }
            Command::Subscribe => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.subscribed = true;
                }
                DONE
            }
            Command::Shutdown { force } => self.shutdown(force, asker),
        };
        match answer {
            Ok(Some(reply)) => self.reply(asker, Ok(reply), Vec::new()),
            Ok(None) => {}
            Err(refusal) => self.reply(asker, Err(refusal), Vec::new()),
        }
    }

    fn number(&self, target: &Target) -> Result<Number, Refusal> {
        match target {
            Target::Init => Ok(INIT),
            Target::Exec(id) => {
                self.execs.get(id).copied().ok_or_else(|| Refusal::NoSuchExec { id: id.clone() })
            }
        }
    }

    fn process(&mut self, target: &Target) -> Result<&mut Process, Refusal> {
        let number = self.number(target)?;
        self.processes.get_mut(&number).ok_or(Refusal::NotCreated)
    }

    fn state(&self) -> State {
        let init = &self.processes[&INIT];
        let execs = self.execs.iter().filter_map(|(id, number)| {
            let process = self.processes.get(number)?;
            Some(ExecState {
                id: id.clone(),
                status: process.status(),
                pid: process.pid,
                exit: process.exit.clone(),
            })
        });
        State {
            status: match init.status() {
                Status::Running if self.paused => Status::Paused,
                status => status,
            },
            pid: init.pid.filter(|_| init.is_alive()),
            shim_pid: Some(Pid::this().as_raw()),
            started_at: self.started_at,
            exit: init.exit.clone(),
            oom_killed: self.oom_kills > 0,
            execs: execs.collect(),
            cgroup: Some(self.config.cgroup.clone()),
            warnings: self.warnings.clone(),
        }
    }

    fn kill(&mut self, target: &Target, signal: i32) -> Answer {
        let process = self.process(target)?;
        let Some(pid) = process.pid.filter(|_| process.is_alive()) else {
            return Err(Refusal::NotRunning);
        };
        // By number: real-time signals have no name.
        skep_sys::process::kill(pid, signal)
            .map_err(|e| refusal("could not send the signal", &e))?;
        DONE
    }

    fn kill_all(&mut self, signal: i32) -> Answer {
        let pids = self.cgroup.pids().map_err(system)?;
        for pid in pids {
            // One that has just ended is no failure.
            let _ = skep_sys::process::kill(pid, signal);
        }
        DONE
    }

    fn pause(&mut self) -> Answer {
        if self.processes[&INIT].phase != Phase::Running {
            return Err(Refusal::NotRunning);
        }
        if self.paused {
            return Err(Refusal::Paused);
        }
        self.cgroup.freeze().map_err(system)?;
        self.paused = true;
        DONE
    }

    fn resume(&mut self) -> Answer {
        if !self.paused {
            return Err(Refusal::NotPaused);
        }
        self.cgroup.thaw().map_err(system)?;
        self.paused = false;
        DONE
    }

    fn resize(&mut self, target: &Target, size: crate::proto::Size) -> Answer {
        let process = self.process(target)?;
        if !process.tty {
            return Err(Refusal::NoTerminal);
        }
        // Also for a terminal that is still to come.
        process.size = Some(size);
        if let Some(terminal) = &process.stdio.terminal {
            skep_sys::tty::set_size(terminal.as_fd(), size.rows, size.cols)
                .map_err(|e| refusal("could not resize the terminal", &e))?;
        }
        DONE
    }

    fn wait_for(&mut self, target: &Target, asker: Asker) -> Answer {
        let process = self.process(target)?;
        match &process.exit {
            Some(status) => Ok(Some(Reply::Exited(status.clone()))),
            None => {
                process.waiters.push(asker);
                Ok(None)
            }
        }
    }

    fn attach(&mut self, target: &Target, streams: (bool, bool, bool), asker: Asker) -> Answer {
        let number = self.number(target)?;
        if self
            .processes
            .get(&number)
            .is_none_or(|p| matches!(p.phase, Phase::Ending(..) | Phase::Exited))
        {
            return Err(Refusal::NotRunning);
        }
        // The answer is the last message; from then on there are frames.
        self.reply(asker, Ok(Reply::Done), Vec::new());
        let (Some(connection), Some(process)) =
            (self.connections.remove(&asker.0), self.processes.get_mut(&number))
        else {
            return Ok(None);
        };
        let (stream, unsent, received) = connection.into_parts();
        if let Err(e) = process.attach(Client::new(stream, streams, unsent, received)) {
            note(format_args!("dropped a client: {e}"));
        }
        Ok(None)
    }

    fn exec_create(&mut self, spec: ExecSpec) -> Answer {
        if self.processes[&INIT].phase != Phase::Running {
            return Err(Refusal::NotRunning);
        }
        if self.paused {
            return Err(Refusal::Paused);
        }
        if self.execs.contains_key(&spec.id) {
            return Err(Refusal::ExecExists { id: spec.id });
        }
        self.launches += 1;
        let mut process = Process::new(spec.tty, spec.open_stdin, true, spec.console_size);
        process.exec = Some(spec.process);
        self.processes.insert(self.launches, process);
        self.execs.insert(spec.id, self.launches);
        DONE
    }

    fn exec_start(&mut self, id: &str, asker: Asker) -> Answer {
        if self.processes[&INIT].phase != Phase::Running {
            return Err(Refusal::NotRunning);
        }
        if self.paused {
            return Err(Refusal::Paused);
        }
        let target = Target::Exec(id.to_owned());
        let number = self.number(&target)?;
        let started = || Refusal::ExecStarted { id: id.to_owned() };
        let process = self.process(&target)?.exec.take().ok_or_else(started)?;
        self.exec(number, process, asker).map(|()| None)
    }

    fn exec_remove(&mut self, id: &str) -> Answer {
        let number = self.number(&Target::Exec(id.to_owned()))?;
        match self.processes.get(&number).map(|p| &p.phase) {
            Some(Phase::New | Phase::Exited) | None => {
                self.processes.remove(&number);
                self.execs.remove(id);
                DONE
            }
            Some(_) => Err(Refusal::ExecStarted { id: id.to_owned() }),
        }
    }

    fn hold(&mut self, connection: u64, names: Vec<String>) -> Answer {
        let fds = self
            .connections
            .get_mut(&connection)
            .map_or_else(Vec::new, |c| std::mem::take(&mut c.fds));
        if names.len() != fds.len() {
            return Err(Refusal::HoldMismatch { names: names.len(), fds: fds.len() });
        }
        self.held.extend(names.into_iter().zip(fds));
        DONE
    }

    fn fetch(&mut self, names: &[String], asker: Asker) {
        let names: Vec<String> =
            if names.is_empty() { self.held.keys().cloned().collect() } else { names.to_vec() };
        let copies: Result<Vec<OwnedFd>, Refusal> = names
            .iter()
            .map(|name| {
                let fd =
                    self.held.get(name).ok_or_else(|| Refusal::NotHeld { name: name.clone() })?;
                fd.try_clone().map_err(|e| refusal("could not copy a descriptor", &e))
            })
            .collect();
        match copies {
            Ok(fds) if fds.len() <= skep_sys::scm::MAX_FDS => {
                self.reply(asker, Ok(Reply::Fds(names)), fds)
            }
            Ok(_) => {
                let e = io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "more descriptors than a message carries",
                );
                self.reply(asker, Err(refusal("could not send descriptors", &e)), Vec::new());
            }
            Err(refusal) => self.reply(asker, Err(refusal), Vec::new()),
        }
    }

    fn shutdown(&mut self, force: bool, asker: Asker) -> Answer {
        let alive = self.processes.values().any(|p| p.is_alive() || p.launch.is_some());
        if alive && !force {
            return Err(Refusal::System {
                what: "could not end the shim".into(),
                message: "processes run".into(),
                errno: None,
            });
        }
        self.ending = Some(Ending::begin(asker));
        self.end_all();
        Ok(None)
    }

    /// Kills everything of the container and every launcher.
    pub(super) fn end_all(&mut self) {
        for process in self.processes.values() {
            if let Some(pid) = process.pid.filter(|_| process.is_alive()) {
                let _ = skep_sys::process::kill(pid, Signal::SIGKILL as i32);
            } else if let Some(launcher) = process.launch.as_ref().and_then(|l| l.launcher) {
                let _ = skep_sys::process::kill(launcher, Signal::SIGKILL as i32);
            }
        }
        if let Err(e) = self.cgroup.signal_all(Signal::SIGKILL) {
            note(format_args!("could not kill the container's processes: {e}"));
        }
        if self.paused {
            if let Err(e) = self.cgroup.thaw() {
                note(format_args!("could not thaw the container: {e}"));
            }
            self.paused = false;
        }
    }
}

fn system(error: crate::cgroup::CgroupError) -> Refusal {
    let errno = std::error::Error::source(&error)
        .and_then(|e| e.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error);
    let message = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
    Refusal::System { what: error.to_string(), message, errno }
}
