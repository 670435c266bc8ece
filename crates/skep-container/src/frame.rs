//! Frames of an attach connection.
//!
//! Both directions use the same header of 5 bytes: kind, then a little-endian `u32` length. From
//! the shim: output of the container; the end of the stream is the end of the connection. To the
//! shim: input; [`KIND_CLOSE_STDIN`] without a body closes it.

/// Header length in bytes.
pub const HEADER: usize = 5;
/// Body bytes of one frame, at most. Both sides split longer ones.
pub const MAX_BODY: usize = 32 * 1024;

pub const KIND_STDIN: u8 = 0;
pub const KIND_STDOUT: u8 = 1;
pub const KIND_STDERR: u8 = 2;
pub const KIND_CLOSE_STDIN: u8 = 3;

/// Which of the two outputs. A terminal's output is all `Stdout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StdStream {
    Stdout,
    Stderr,
}

impl StdStream {
    pub(crate) fn kind(self) -> u8 {
        match self {
            StdStream::Stdout => KIND_STDOUT,
            StdStream::Stderr => KIND_STDERR,
        }
    }

    /// As in the log: `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            StdStream::Stdout => "stdout",
            StdStream::Stderr => "stderr",
        }
    }
}

/// Encodes a header.
pub(crate) fn header(kind: u8, len: usize) -> [u8; HEADER] {
    debug_assert!(len <= MAX_BODY, "frame body of {len} bytes");
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    [kind, len[0], len[1], len[2], len[3]]
}

/// Splits a header into kind and body length; `None` if the length is over the limit.
pub(crate) fn parse(header: [u8; HEADER]) -> Option<(u8, usize)> {
    let len = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    (len <= MAX_BODY).then_some((header[0], len))
}
