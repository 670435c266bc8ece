//! Signal dispositions that must be reset before a foreign program runs.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Gives every signal its default action and unblocks all of them.
///
/// The Rust runtime ignores SIGPIPE, and dispositions of "ignore" and blocked masks survive
/// execve: a program started without this would see writes to closed pipes fail instead of being
/// ended, unlike under any other launcher.
pub fn reset_signals() -> std::io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: no handler function is installed, only the default action.
        unsafe { sigaction(signal, &default) }?;
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Takes the next pending signal of `set` (which must be blocked), by number: real-time signals, too,
/// which have no name. Waits for one; `ErrorKind::Interrupted` if another signal's handler ran.
pub fn wait(set: &SigSet) -> std::io::Result<i32> {
    let mut signal = 0;
    // SAFETY: both pointers are valid for the call; sigwait writes one integer.
    match unsafe { nix::libc::sigwait(set.as_ref(), &raw mut signal) } {
        0 => Ok(signal),
        errno => Err(std::io::Error::from_raw_os_error(errno)),
    }
}
