//! Messages with file descriptors over unix sockets (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The most descriptors one message carries. The kernel allows 253 (SCM_MAX_FD); we stay below.
pub const MAX_FDS: usize = 64;

/// Sends `bytes` (at least one) with `fds` on a stream socket; returns how many bytes went out.
///
/// The descriptors travel with the first byte, so once this returns a positive count they are
/// gone out, also when the count is short. Never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS || (bytes.is_empty() && !fds.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(sent)
}

/// Receives into `buf`, appending descriptors that came along to `fds` (close-on-exec set).
///
/// Returns 0 at the end of the stream.
pub fn recv(socket: BorrowedFd<'_>, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buf)];
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut iov,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let count = message.bytes;
    let truncated = message.flags.contains(MsgFlags::MSG_CTRUNC);
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            for fd in raw {
                // SAFETY: the kernel has just put this descriptor into our table for this message;
                // nobody else knows of it, so we own it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if truncated {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more descriptors than a message may carry",
        ));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_and_works() {
        let (left, right) = UnixStream::pair().expect("socket pair");
        let (mut inner, passed) = UnixStream::pair().expect("socket pair");
        assert_eq!(send(left.as_fd(), b"x", &[passed.as_fd()]).expect("send"), 1);
        drop(passed);

        let mut buf = [0; 8];
        let mut fds = Vec::new();
        assert_eq!(recv(right.as_fd(), &mut buf, &mut fds).expect("recv"), 1);
        let mut arrived = UnixStream::from(fds.pop().expect("one descriptor"));
        arrived.write_all(b"hello").expect("write");
        drop(arrived);
        let mut text = String::new();
        inner.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
    }
}
