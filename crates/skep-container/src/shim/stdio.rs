//! The shim's ends of a process's standard streams.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::frame::StdStream;
use crate::launch;
use crate::proto::Size;

/// How long a terminal may take to arrive once somebody has come with it.
const TERMINAL: Duration = Duration::from_secs(2);

/// Both ends of new streams, or a place where a terminal will arrive.
pub(super) struct NewStdio {
    pub(super) ours: Stdio,
    pub(super) theirs: launch::Stdio,
}

/// What the shim keeps. A missing end is closed.
#[derive(Debug, Default)]
pub(super) struct Stdio {
    pub(super) input: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// A terminal's master end, for input, output and size.
    pub(super) terminal: Option<OwnedFd>,
    /// Where the terminal arrives; gone once it has.
    pub(super) console: Option<Console>,
}

/// A socket that waits for a terminal's master end.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl NewStdio {
    /// Three pipes; without `open_stdin` the input is /dev/null.
    pub(super) fn pipes(open_stdin: bool) -> io::Result<NewStdio> {
        let (stdin, input) = if open_stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            (read, Some(unblocked(write)?))
        } else {
            (OpenOptions::new().read(true).open("/dev/null")?.into(), None)
        };
        let (stdout, out) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, err) = pipe2(OFlag::O_CLOEXEC)?;
        let ours = Stdio {
            input,
            stdout: Some(unblocked(stdout)?),
            stderr: Some(unblocked(stderr)?),
            ..Stdio::default()
        };
        Ok(NewStdio { ours, theirs: launch::Stdio::Pipes { stdin, stdout: out, stderr: err } })
    }

    /// A terminal to come. `number` is unique among this shim's launches.
    pub(super) fn terminal(number: u64) -> io::Result<NewStdio> {
        let path = PathBuf::from(format!("console-{number}.sock"));
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let theirs = launch::Stdio::Console(std::env::current_dir()?.join(&path));
        let ours = Stdio { console: Some(Console { listener, path }), ..Stdio::default() };
        Ok(NewStdio { ours, theirs })
    }
}

impl Stdio {
    /// Takes the terminal in if it has arrived.
    pub(super) fn receive_terminal(&mut self, size: Option<Size>) -> io::Result<()> {
        let Some(console) = &self.console else { return Ok(()) };
        let stream = match console.listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        stream.set_nonblocking(false)?;
        // It is sent at once, unless the sender is stopped.
        stream.set_read_timeout(Some(TERMINAL))?;
        let (mut byte, mut fds) = ([0; 64], Vec::new());
        skep_sys::scm::recv(stream.as_fd(), &mut byte, &mut fds)?;
        if let Some(master) = fds.pop() {
            if let Some(Size { rows, cols }) = size {
                skep_sys::tty::set_size(master.as_fd(), rows, cols)?;
            }
            self.terminal = Some(unblocked(master)?);
        }
        self.forget_terminal();
        Ok(())
    }

    /// Takes the socket away at which a terminal was to arrive. (Not on drop: launchers drop their
    /// copies of other processes' streams.)
    pub(super) fn forget_terminal(&mut self) {
        if let Some(console) = self.console.take() {
            // A left-over socket file is removed with the bundle.
            let _ = std::fs::remove_file(console.path);
        }
    }

    /// Where one output stream is read from.
    pub(super) fn output(&self, stream: StdStream) -> Option<&OwnedFd> {
        match stream {
            StdStream::Stdout => self.terminal.as_ref().or(self.stdout.as_ref()),
            StdStream::Stderr => self.stderr.as_ref(),
        }
    }

    /// Where input is written to.
    pub(super) fn input(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref().or(self.input.as_ref())
    }

    pub(super) fn close_output(&mut self, stream: StdStream) {
        match stream {
            StdStream::Stdout => (self.terminal, self.stdout) = (None, None),
            StdStream::Stderr => self.stderr = None,
        }
    }
}

/// Makes a descriptor non-blocking.
pub(super) fn unblocked(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd)
}
