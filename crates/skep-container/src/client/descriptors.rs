//! Handing descriptors to a shim and getting them back, each on a short connection of its own.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::connection::{encode, open_bundle};
use crate::proto::{Command, FromShim, MAX_MESSAGE, Refusal, Reply, Request, SOCKET};

/// A shim answers these at once; longer means that it hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends `command` with `fds`; blocks for the reply and the descriptors that come with it.
pub(super) fn exchange(
    bundle: &Path,
    command: Command,
    fds: &[OwnedFd],
) -> io::Result<(Result<Reply, Refusal>, Vec<OwnedFd>)> {
    let dir = open_bundle(bundle)?;
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;

    let message = encode(&Request { seq: 0, body: command })?;
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let sent = skep_sys::scm::send(stream.as_fd(), &message, &borrowed)?;
    stream.write_all(&message[sent..])?;

    let mut arrived = Vec::new();
    let mut len = [0; 4];
    let got = skep_sys::scm::recv(stream.as_fd(), &mut len, &mut arrived)?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.read_exact(&mut len[got..])?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message of {len} bytes")));
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    match serde_json::from_slice(&body)? {
        FromShim::Reply { result, .. } => Ok((result, arrived)),
        FromShim::Event { .. } => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "event before reply"))
        }
    }
}
