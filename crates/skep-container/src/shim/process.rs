//! The init process or an exec process: its life, streams and clients.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::client::{Client, Input};
use super::limit::Limit;
use super::stdio::Stdio;
use crate::frame::StdStream;
use crate::launch::report::Collector;
use crate::logs::{Lines, Writer};
use crate::proto::{ExitStatus, Refusal, Size, Status};

/// Input that may wait for a process that does not read, in bytes.
const MAX_INPUT: usize = 64 * 1024;
/// How long output is still read after the end of the process, while others hold the streams open.
const DRAIN: Duration = Duration::from_secs(2);
/// How soon a terminal that nobody has open is looked at again.
const HUNG_UP: Duration = Duration::from_millis(200);

/// Whom to answer: a connection and its request.
pub(super) type Asker = (u64, u64);

#[derive(Debug)]
pub(super) struct Process {
    pub(super) tty: bool,
    pub(super) open_stdin: bool,
    /// Whether a client's end of input ends the process's.
    pub(super) stdin_once: bool,
    pub(super) size: Option<Size>,
    pub(super) phase: Phase,
    pub(super) pid: Option<i32>,
    /// An exec process's OCI description, until it is started.
    pub(super) exec: Option<serde_json::Value>,
    pub(super) launch: Option<Launch>,
    pub(super) exit: Option<ExitStatus>,
    pub(super) stdio: Stdio,
    pub(super) clients: Vec<Client>,
    pub(super) waiters: Vec<Asker>,
    input: VecDeque<u8>,
    close_input: bool,
    lines: [Lines; 2],
    /// A terminal without users; not polled before this time.
    hung_up: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Known, and nothing done yet.
    New,
    /// A launcher is at work.
    Launching,
    /// The init process waits for its start.
    Created,
    /// Told to start; not known to run yet.
    Starting,
    Running,
    /// Ended; its output is still being read, until the time at the latest.
    Ending(ExitStatus, Instant),
    Exited,
}

/// A launch under way.
#[derive(Debug)]
pub(super) struct Launch {
    /// `None` once it has ended.
    pub(super) launcher: Option<i32>,
    pub(super) report: OwnedFd,
    pub(super) collector: Collector,
    /// Who asked for the step under way.
    pub(super) asker: Option<Asker>,
    /// Why it will not run.
    pub(super) failure: Option<Refusal>,
    /// What libcontainer logged as errors, in the order it did.
    pub details: Vec<String>,
    pub(super) limit: Limit,
}

impl Process {
    pub(super) fn new(
        tty: bool,
        open_stdin: bool,
        stdin_once: bool,
        size: Option<Size>,
    ) -> Process {
        Process {
            tty,
            open_stdin,
            stdin_once,
            size,
            phase: Phase::New,
            pid: None,
            exec: None,
            launch: None,
            exit: None,
            stdio: Stdio::default(),
            clients: Vec::new(),
            waiters: Vec::new(),
            input: VecDeque::new(),
            close_input: false,
            lines: [Lines::default(), Lines::default()],
            hung_up: None,
        }
    }

    pub(super) fn status(&self) -> Status {
        match self.phase {
            Phase::New | Phase::Launching | Phase::Created | Phase::Starting => Status::Created,
            Phase::Running | Phase::Ending(..) => Status::Running,
            Phase::Exited => Status::Exited,
        }
    }

    /// Whether there is a process to signal.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Created | Phase::Starting | Phase::Running)
            || (self.phase == Phase::Launching && self.pid.is_some())
    }

    /// Whether output may be read: some client would have to keep too much otherwise.
    pub(super) fn may_read(&self) -> bool {
        !self.clients.iter().any(Client::is_full) && self.hung_up.is_none()
    }

    pub(super) fn wants_input(&self) -> bool {
        self.input.len() < MAX_INPUT
    }

    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty() && self.stdio.input().is_some()
    }

    /// The next time at which something must be done without an event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ending = match self.phase {
            // While a client holds the output up, its own deadline counts.
            Phase::Ending(_, until) if self.may_read() => Some(until),
            _ => None,
        };
        let launch = self.launch.as_ref().and_then(|launch| launch.limit.next());
        let clients = self.clients.iter().filter_map(Client::deadline);
        clients.chain(ending).chain(launch).chain(self.hung_up).min()
    }

    /// Reads output once and hands it on. True while there may be more at once.
    pub(super) fn read_output(
        &mut self,
        stream: StdStream,
        buffer: &mut [u8],
        log: &mut Option<Writer>,
    ) -> io::Result<bool> {
        let Some(fd) = self.stdio.output(stream) else { return Ok(false) };
        match nix::unistd::read(fd, buffer) {
            Ok(0) => {
                self.stdio.close_output(stream);
                Ok(false)
            }
            Ok(count) => {
                let output = &buffer[..count];
                for client in &mut self.clients {
                    client.push(stream, output);
                }
                self.clients.retain_mut(|client| client.flush().is_ok());
                let written = match log {
                    Some(log) => log.write(&mut self.lines[stream as usize], stream, output),
                    None => Ok(()),
                };
                written.map(|()| count == buffer.len())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            // Nobody has the terminal open: for good if the process is over, else until somebody does.
            Err(Errno::EIO) if self.is_alive() => {
                self.hung_up = Some(Instant::now() + HUNG_UP);
                Ok(false)
            }
            Err(_) => {
                self.stdio.close_output(stream);
                Ok(false)
            }
        }
    }

    /// Writes to the log what has no newline, at the end of the streams.
    pub(super) fn finish_log(&mut self, log: &mut Option<Writer>) -> io::Result<()> {
        let Some(log) = log else { return Ok(()) };
        log.finish(&mut self.lines[0], StdStream::Stdout)?;
        log.finish(&mut self.lines[1], StdStream::Stderr)
    }

    /// Takes a client's input.
    pub(super) fn take_input(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            match input {
                Input::Bytes(bytes) if self.open_stdin => self.input.extend(bytes),
                Input::Close if self.stdin_once && !self.tty => self.close_input = true,
                Input::Bytes(_) | Input::Close => {}
            }
        }
        // Before there is a process the input waits.
        if !matches!(self.phase, Phase::New) {
            self.write_input();
        }
    }

    /// Writes what the process takes, and closes its input when that is due.
    pub(super) fn write_input(&mut self) {
        while !self.input.is_empty() {
            let result = match self.stdio.input() {
                Some(fd) => nix::unistd::write(fd, self.input.as_slices().0),
                None if self.stdio.console.is_some() => return,
                // Closed: thrown away.
                None => Ok(self.input.len()),
            };
            match result {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // The process has closed its end.
                Err(_) => {
                    self.input.clear();
                    self.stdio.input = None;
                }
            }
        }
        self.input.shrink_to(0);
        if self.close_input {
            self.stdio.input = None;
        }
    }

    /// Adds a client, with what it has sent already.
    pub(super) fn attach(&mut self, mut client: Client) -> io::Result<()> {
        let inputs = client.decode()?;
        client.flush()?;
        self.clients.push(client);
        self.take_input(inputs);
        Ok(())
    }

    /// Serves one client's socket. Gone clients are taken off.
    pub(super) fn serve_client(
        &mut self,
        at: usize,
        readable: bool,
        writable: bool,
        hung_up: bool,
    ) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let served = (|| {
            if writable {
                client.flush()?;
            }
            if readable { client.read() } else { Ok(Vec::new()) }
        })();
        // Closed on both sides, and nothing more of it to read.
        let gone = served.is_err() || (hung_up && !client.wants_read());
        if gone {
            self.clients.remove(at);
        }
        self.take_input(served.unwrap_or_default());
    }

    /// Cuts off stalled clients; those of an ended process go once they have everything.
    pub(super) fn review_clients(&mut self, now: Instant) {
        let over = self.phase == Phase::Exited;
        self.clients.retain(|client| {
            let stalled = client.deadline().is_some_and(|deadline| deadline <= now);
            let served = over && !client.wants_write();
            !stalled && !served
        });
        if self.hung_up.is_some_and(|until| until <= now) {
            self.hung_up = None;
        }
    }

    /// The process has ended; its output is read on.
    pub(super) fn end(&mut self, status: ExitStatus) {
        self.hung_up = None;
        self.stdio.input = None;
        self.input.clear();
        self.phase = Phase::Ending(status, Instant::now() + DRAIN);
    }

    /// Whether all that can come has come, or has had the time to. Not while a client holds the
    /// output up: what is in the pipes then is the process's last words.
    pub(super) fn is_drained(&self, now: Instant) -> bool {
        let open = self.stdio.output(StdStream::Stdout).is_some()
            || self.stdio.output(StdStream::Stderr).is_some();
        match &self.phase {
            Phase::Ending(_, until) => !open || (*until <= now && self.may_read()),
            _ => false,
        }
    }
}
