//! Terminal window sizes and controlling terminals.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::pty::Winsize;

/// Sets the size of the terminal behind `tty` (either end of a pseudo-terminal pair), in
/// character cells. The foreground process group gets SIGWINCH when the size changes.
pub fn set_size(tty: BorrowedFd<'_>, rows: u16, cols: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize` from the pointer, which is valid for the call.
    match unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The size of the terminal as (rows, columns).
pub fn size(tty: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which is valid for the call.
    match unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } {
        0 => Ok((size.ws_row, size.ws_col)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_other_end_sees_the_size() {
        let pair = nix::pty::openpty(None, None).expect("pty");
        set_size(pair.master.as_fd(), 33, 101).expect("set");
        assert_eq!(size(pair.slave.as_fd()).expect("get"), (33, 101));
    }
}
