//! The tiny init of `--init`: process 1 that reaps orphans and passes signals on.
//!
//! It is the container's first process going on instead of executing the command, not a program in
//! the container: an executable bound into a foreign root would have to be linked statically, and
//! would be there to be tampered with. The process is not dumpable (libcontainer sees to that), so
//! the container cannot reach the host's executable through `/proc/1/exe` either.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setpgid, tcsetpgrp};

/// Signals that mean the process itself and are not passed on.
const OWN: [Signal; 7] = [
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// The exit code if there is no child to run.
const NO_CHILD: i32 = 128;

/// Runs `command` in a child (in a process group of its own, in the foreground of the terminal if
/// there is one) until that ends. Returns its exit code only if there is no child; otherwise this
/// process ends with the child's, 128 plus the signal if one ended it.
pub(crate) fn run(command: impl FnOnce() -> i32) -> i32 {
    let mut passed_on = SigSet::all();
    for signal in OWN {
        passed_on.remove(signal);
    }
    if passed_on.thread_block().is_err() {
        return NO_CHILD;
    }
    let child = skep_sys::process::fork_single_threaded(|| {
        // Both fail only where there is nothing to do: the group exists, or there is no terminal.
        // SIGTTOU is blocked, so that taking the terminal does not stop us.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        let _ = tcsetpgrp(std::io::stdin(), Pid::this());
        command()
    });
    let Ok(child) = child else { return NO_CHILD };
    skep_sys::process::continue_without_descriptors(|| supervise(child, &passed_on))
}

fn supervise(child: Pid, passed_on: &SigSet) -> i32 {
    // Cosmetic: how `ps` shows it.
    let _ = nix::sys::prctl::set_name(c"docker-init");
    loop {
        match skep_sys::signals::wait(passed_on) {
            Ok(signal) if signal == Signal::SIGCHLD as i32 => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            // Background processes that use the terminal mean themselves.
            Ok(signal) if signal == Signal::SIGTTIN as i32 || signal == Signal::SIGTTOU as i32 => {}
            // A child that has just ended is told by SIGCHLD next.
            Ok(signal) => drop(skep_sys::process::kill(child.as_raw(), signal)),
            Err(_) => {}
        }
    }
}

/// Reaps everything that has ended; gives the code if the child is among it.
fn reap(child: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(128 + signal as i32)
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}
