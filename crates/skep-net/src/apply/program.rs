//! A program that is run for what it prints, and not for longer than a limit.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks whether a program that said all it has to say has ended.
const PAUSE: Duration = Duration::from_millis(1);

/// Runs a program, gives it `input` and takes what it writes. One that has not ended after `limit` is killed
/// ([`io::ErrorKind::TimedOut`]).
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Output> {
    let deadline = Instant::now() + limit;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let talked = talk(&mut child, input, deadline).and_then(|said| {
        end(&mut child, deadline)?;
        Ok(said)
    });
    if talked.is_err()
        && let Err(error) = child.kill()
    {
        tracing::warn!(%error, pid = child.id(), "cannot kill a program that does not end");
    }
    // Also of one that was killed, or it would stay as a zombie.
    let status = child.wait()?;
    let (stdout, stderr) = talked?;
    Ok(Output { status, stdout, stderr })
}

fn end(child: &mut Child, deadline: Instant) -> io::Result<()> {
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Writes and reads at the same time, so that no full pipe stops either side.
fn talk(child: &mut Child, input: &[u8], deadline: Instant) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut stdin, mut rest) = (child.stdin.take(), input);
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    if let Some(stdin) = &stdin {
        fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    loop {
        if rest.is_empty() {
            // The end of its input.
            stdin = None;
        }
        let ends: [(Option<BorrowedFd<'_>>, PollFlags); 3] = [
            (stdin.as_ref().map(AsFd::as_fd), PollFlags::POLLOUT),
            (stdout.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            (stderr.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
        ];
        let mut waiting: Vec<PollFd<'_>> =
            ends.iter().filter_map(|(fd, what)| Some(PollFd::new((*fd)?, *what))).collect();
        if waiting.is_empty() {
            return Ok((out, err));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Rounded up, or the last millisecond would be spent turning.
        let left = PollTimeout::try_from(left + PAUSE).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = waiting.iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>();
        let mut turn = |open: bool| open && ready.drain(..1).next().unwrap_or(false);
        let ready = [turn(stdin.is_some()), turn(stdout.is_some()), turn(stderr.is_some())];
        if let (Some(pipe), true) = (&mut stdin, ready[0]) {
            match pipe.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // It reads no more; its exit status says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => rest = &[],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if ready[1] && take(&mut stdout, &mut out)? {
            stdout = None;
        }
        if ready[2] && take(&mut stderr, &mut err)? {
            stderr = None;
        }
    }
}

/// Reads once. Whether that was the end.
fn take(pipe: &mut Option<impl io::Read>, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    let Some(pipe) = pipe else { return Ok(true) };
    let length = pipe.read(&mut buffer)?;
    into.extend_from_slice(buffer.get(..length).unwrap_or_default());
    Ok(length == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_gets_its_input_and_gives_its_output() {
        // More than any pipe holds, both ways.
        let input = vec![b'x'; 1 << 20];
        let output = run(&mut sh("cat; echo no >&2; exit 3"), &input, Duration::from_secs(60));
        let output = output.expect("the shell");
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout == input, "{} bytes", output.stdout.len());
        assert_eq!(output.stderr, b"no\n");
        // One that does not read is no failure.
        let output = run(&mut sh("exit 0"), &input, Duration::from_secs(60)).expect("the shell");
        assert!(output.status.success());
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        for script in
            ["exec sleep 600", "exec >&- 2>&-; exec sleep 600", "cat >/dev/null; exec sleep 600"]
        {
            let result = run(&mut sh(script), b"input", Duration::from_millis(50));
            assert_eq!(result.expect_err(script).kind(), io::ErrorKind::TimedOut, "{script}");
        }
    }
}
