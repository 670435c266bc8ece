//! Forking without an exec.

use std::io;

use nix::unistd::{ForkResult, Pid};

/// Forks; the child runs `child` and exits with what it returns, the parent gets the child's pid.
///
/// The child is a full copy and may allocate, open files and run any code: that is only sound
/// when no other thread could hold a lock at the moment of the fork, so a process with more than
/// one thread is refused with `ErrorKind::Unsupported` (nothing is forked then). The child leaves
/// by `_exit`: no destructor and no exit handler of the parent runs in it. A panic in `child`
/// ends it with status 101.
pub fn fork_single_threaded(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    if thread_count()? != 1 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "fork needs a process with a single thread",
        ));
    }
    // SAFETY: the process has exactly one thread (checked above, and only this thread could have
    // started another since), so no lock of the allocator or of anyone else is held elsewhere.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: _exit only ends the process.
            unsafe { nix::libc::_exit(code) }
        }
    }
}

/// Sends a signal by number (real-time ones have no name) to one process. `pid` must be positive: the
/// kernel's special meanings of zero and negative numbers are not for here.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two numbers and touches no memory.
    if unsafe { nix::libc::kill(pid, signal) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes every descriptor but the standard streams, runs `rest` and exits with what it returns.
///
/// For a forked process that goes on without an exec and must not hold its origin's descriptors.
/// Never returns, so nobody can use one that is closed here; `rest` must bring none along.
pub fn continue_without_descriptors(rest: impl FnOnce() -> i32) -> ! {
    // SAFETY: closing descriptors touches no memory; their owners in this process never run again,
    // because this function does not return and _exit runs no destructors.
    unsafe { nix::libc::close_range(3, nix::libc::c_uint::MAX, 0) };
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(rest)).unwrap_or(101);
    // SAFETY: _exit only ends the process.
    unsafe { nix::libc::_exit(code) }
}

fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_when_threads_run() {
        // The test harness runs this on a thread of its own, so there are at least two.
        let err = fork_single_threaded(|| 0).expect_err("several threads");
        assert_eq!(err.kind(), io::ErrorKind::Unsupported);
    }
}
