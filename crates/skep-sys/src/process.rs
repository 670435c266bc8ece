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
