//! The poll loop.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use time::OffsetDateTime;

use super::connection::Connection;
use super::limit::END;
use super::note::note;
use super::process::{Asker, Phase, Process};
use crate::cgroup::{Cgroup, OomWatch};
use crate::frame::StdStream;
use crate::logs::Writer;
use crate::proto::{Event, FromShim, Refusal, Reply, ShimConfig};

/// Output is read in pieces of this size; as long as a log entry may be.
const BUFFER: usize = 16 * 1024;
/// Reads of one stream before others get their turn.
const TURNS: usize = 16;
/// How long a shim waits for its daemon, which has a busy host in front of it at worst.
const FIRST_CONNECTION: Duration = Duration::from_secs(60);
/// Names no connection.
pub(super) const NOBODY: Asker = (0, 0);

/// By which the shim knows its processes: 0 is the init process, exec processes count from 1.
pub(super) type Number = u64;
pub(super) const INIT: Number = 0;

pub(super) struct Shim {
    pub(super) config: ShimConfig,
    pub(super) cgroup: Cgroup,
    /// The container's root until it is launched, if it was handed over.
    pub(super) root: Option<OwnedFd>,
    /// `None` in launchers only.
    listener: Option<UnixListener>,
    signals: SignalFd,
    pub(super) connections: BTreeMap<u64, Connection>,
    /// Counts connections; the first is 1.
    next_connection: u64,
    /// Until when the first must have come.
    expected: Instant,
    pub(super) processes: BTreeMap<Number, Process>,
    /// Exec processes by their ids.
    pub(super) execs: BTreeMap<String, Number>,
    pub(super) launches: Number,
    pub(super) log: Option<Writer>,
    buffer: Vec<u8>,
    pub(super) held: BTreeMap<String, OwnedFd>,
    pub(super) oom: Option<OomWatch>,
    pub(super) oom_kills: u64,
    pub(super) paused: bool,
    pub(super) started_at: Option<OffsetDateTime>,
    pub(super) warnings: Vec<String>,
    /// Who asked for the end, once somebody has.
    pub(super) ending: Option<Ending>,
}

/// What a polled descriptor is.
#[derive(Clone, Copy, Debug)]
enum Source {
    Listener,
    Signals,
    Oom,
    Connection(u64),
    Report(Number),
    Console(Number),
    Output(Number, StdStream),
    Input(Number),
    /// By its place among the process's clients.
    Client(Number, usize),
}

/// The end of the shim, as somebody wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) asker: Asker,
    /// When all must be gone.
    pub(super) until: Instant,
}

impl Ending {
    pub(super) fn begin(asker: Asker) -> Ending {
        Ending { asker, until: Instant::now() + END }
    }
}

impl Shim {
    pub(super) fn new(
        config: ShimConfig,
        root: Option<OwnedFd>,
        listener: UnixListener,
    ) -> io::Result<Shim> {
        listener.set_nonblocking(true)?;
        // Those that stop services are only blocked: a shim ends when its daemon says so.
        let blocked = [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGPIPE,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
        ];
        blocked.into_iter().collect::<SigSet>().thread_block()?;
        let children = SigSet::from(Signal::SIGCHLD);
        let signals =
            SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let init =
            Process::new(config.tty, config.open_stdin, config.stdin_once, config.console_size);
        Ok(Shim {
            cgroup: Cgroup::at(&config.cgroup),
            config,
            root,
            listener: Some(listener),
            signals,
            connections: BTreeMap::new(),
            next_connection: 0,
            expected: Instant::now() + FIRST_CONNECTION,
            processes: BTreeMap::from([(INIT, init)]),
            execs: BTreeMap::new(),
            launches: INIT,
            log: None,
            buffer: vec![0; BUFFER],
            held: BTreeMap::new(),
            oom: None,
            oom_kills: 0,
            paused: false,
            started_at: None,
            warnings: Vec::new(),
            ending: None,
        })
    }

    /// Runs until the daemon ends it.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            for (source, events) in self.wait()? {
                self.serve(source, events);
            }
            self.review();
            if self.ending.is_none() && self.is_forsaken() {
                note(format_args!(
                    "the daemon is gone, and the container was not started: ending it"
                ));
                self.ending = Some(Ending::begin(NOBODY));
                self.end_all();
            }
            if self.may_end() {
                return Ok(());
            }
        }
    }

    /// Waits for something to do.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = Vec::new();
        let mut fds = Vec::new();
        let mut add = |source, fd, events| {
            sources.push(source);
            fds.push(PollFd::new(fd, events));
        };
        let (read, write) = (PollFlags::POLLIN, PollFlags::POLLOUT);
        add(Source::Signals, self.signals.as_fd(), read);
        if let Some(listener) = &self.listener {
            add(Source::Listener, listener.as_fd(), read);
        }
        if let Some(oom) = &self.oom {
            add(Source::Oom, oom.as_fd(), oom.events());
        }
        for (&id, connection) in &self.connections {
            let events = if connection.wants_write() { read | write } else { read };
            add(Source::Connection(id), connection.stream.as_fd(), events);
        }
        for (&number, process) in &self.processes {
            if let Some(launch) = &process.launch {
                add(Source::Report(number), launch.report.as_fd(), read);
            }
            if let Some(console) = &process.stdio.console {
                add(Source::Console(number), console.listener.as_fd(), read);
            }
            if process.may_read() {
                for stream in [StdStream::Stdout, StdStream::Stderr] {
                    if let Some(fd) = process.stdio.output(stream) {
                        add(Source::Output(number, stream), fd.as_fd(), read);
                    }
                }
            }
            if let Some(fd) = process.stdio.input().filter(|_| process.has_input()) {
                add(Source::Input(number), fd.as_fd(), write);
            }
            for (at, client) in process.clients.iter().enumerate() {
                let mut events = PollFlags::empty();
                events.set(read, client.wants_read() && process.wants_input());
                events.set(write, client.wants_write());
                add(Source::Client(number, at), client.stream.as_fd(), events);
            }
        }
        let first = (self.next_connection == 0).then_some(self.expected);
        let ending = self.ending.as_ref().map(|ending| ending.until);
        let deadline = self.processes.values().filter_map(Process::deadline);
        let deadline = deadline.chain(first).chain(ending).min();
        let timeout = match deadline {
            None => PollTimeout::NONE,
            // One more millisecond, since the poll counts whole ones and the deadline must be over.
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = sources.iter().zip(&fds).filter_map(|(&source, fd)| {
            fd.revents().filter(|events| !events.is_empty()).map(|events| (source, events))
        });
        // Clients by descending place, so that taking one off moves none that is still to be served.
        let mut ready: Vec<_> = ready.collect();
        ready.sort_by_key(|(source, _)| match source {
            Source::Client(_, at) => usize::MAX - at,
            _ => 0,
        });
        Ok(ready)
    }

    fn serve(&mut self, source: Source, events: PollFlags) {
        let readable =
            events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR);
        let writable = events.intersects(PollFlags::POLLOUT | PollFlags::POLLERR);
        match source {
            Source::Listener => self.accept(),
            Source::Signals => {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            Source::Oom => {
                let there = self.oom.as_ref().is_some_and(OomWatch::clear);
                self.count_oom_kills();
                if !there {
                    self.oom = None;
                }
            }
            Source::Connection(id) => self.serve_connection(id, readable, writable),
            Source::Report(number) => self.read_report(number),
            Source::Console(number) => {
                let received = match self.processes.get_mut(&number) {
                    Some(process) => process.stdio.receive_terminal(process.size),
                    None => Ok(()),
                };
                if let Err(e) = received {
                    self.warn(format!("could not receive the terminal: {e}"));
                }
            }
            Source::Output(number, stream) => self.read_output(number, stream, TURNS),
            Source::Input(number) => {
                if let Some(process) = self.processes.get_mut(&number) {
                    process.write_input();
                }
            }
            Source::Client(number, at) => {
                if let Some(process) = self.processes.get_mut(&number) {
                    process.serve_client(
                        at,
                        readable,
                        writable,
                        events.contains(PollFlags::POLLHUP),
                    );
                }
            }
        }
    }

    /// In a launcher: closes its copies of what is not its own. Others would not see the shim close
    /// its own otherwise, and a process that waits for its start would seem to listen for the shim.
    pub(super) fn release_in_launcher(&mut self) {
        self.listener = None;
        self.connections.clear();
        self.processes.clear();
        self.held.clear();
        self.log = None;
        self.oom = None;
    }

    /// Reads one stream up to `turns` times.
    pub(super) fn read_output(&mut self, number: Number, stream: StdStream, turns: usize) {
        for _ in 0..turns {
            let Some(process) = self.processes.get_mut(&number) else { return };
            if !process.may_read() {
                return;
            }
            let mut none = None;
            let log = if number == INIT { &mut self.log } else { &mut none };
            match process.read_output(stream, &mut self.buffer, log) {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => {
                    self.warn(format!("output is missing in the log: {e}"));
                    return;
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            match Connection::new(stream) {
                Ok(connection) => {
                    self.next_connection += 1;
                    self.connections.insert(self.next_connection, connection);
                }
                Err(e) => note(format_args!("could not take a connection: {e}")),
            }
        }
    }

    fn serve_connection(&mut self, id: u64, readable: bool, writable: bool) {
        if writable && self.connections.get_mut(&id).is_some_and(|c| c.flush().is_err()) {
            self.connections.remove(&id);
        }
        if !readable {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let open = connection.read();
        // A request may turn the connection into an attached client's, so it is looked up each time.
        while let Some(connection) = self.connections.get_mut(&id) {
            match connection.request() {
                Ok(Some(request)) => self.answer(id, request),
                Ok(None) => break,
                Err(e) => {
                    note(format_args!("dropped a connection: {e}"));
                    self.connections.remove(&id);
                }
            }
        }
        if !matches!(open, Ok(true)) {
            self.connections.remove(&id);
        }
    }

    /// Answers a request, if its connection is still there.
    pub(super) fn reply(
        &mut self,
        (id, seq): Asker,
        result: Result<Reply, Refusal>,
        fds: Vec<OwnedFd>,
    ) {
        self.send(id, &FromShim::Reply { seq, result }, fds);
    }

    /// Tells all who asked for events.
    pub(super) fn tell(&mut self, event: &Event) {
        let ids: Vec<u64> =
            self.connections.iter().filter(|(_, c)| c.subscribed).map(|(&id, _)| id).collect();
        for id in ids {
            self.send(id, &FromShim::Event { event: event.clone() }, Vec::new());
        }
    }

    fn send(&mut self, id: u64, message: &FromShim, fds: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&id)
            && let Err(e) = connection.send(message, fds)
        {
            note(format_args!("dropped a connection: {e}"));
            self.connections.remove(&id);
        }
    }

    /// Remembers what could not be done, each once.
    pub(super) fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    pub(super) fn count_oom_kills(&mut self) {
        let kills = self.cgroup.oom_kills();
        if kills > self.oom_kills {
            self.oom_kills = kills;
            self.tell(&Event::OutOfMemory);
        }
    }

    /// Does what time brings.
    fn review(&mut self) {
        let now = Instant::now();
        for process in self.processes.values_mut() {
            process.review_clients(now);
        }
        self.review_launches(now);
        self.finish_ended(now);
        for process in self.processes.values_mut() {
            process.review_clients(now);
        }
    }

    /// Whether the container was not started yet and nobody is there to do so: the next daemon makes a
    /// new one of its record.
    fn is_forsaken(&self) -> bool {
        let waits = self.processes.get(&INIT).is_some_and(|init| {
            matches!(init.phase, Phase::New | Phase::Launching | Phase::Created)
        });
        let came = self.next_connection > 0;
        waits && self.connections.is_empty() && (came || Instant::now() >= self.expected)
    }
}
