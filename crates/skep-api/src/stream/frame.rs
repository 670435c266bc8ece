use bytes::{BufMut, Bytes, BytesMut};

/// Which of a process's streams a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout = 1,
    Stderr = 2,
    /// An error of the daemon's, in the middle of a stream.
    System = 3,
}

/// Longest payload of one frame; longer data becomes several frames, so that no client has to buffer
/// more.
const MAX_PAYLOAD: usize = 1 << 20;

/// Puts data into frames: channel, three zero bytes, length as big-endian `u32`, payload. Empty data
/// makes no frame.
pub(crate) fn frame(channel: Channel, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 8 * (data.len() / MAX_PAYLOAD + 1));
    for payload in data.chunks(MAX_PAYLOAD) {
        out.put_u8(channel as u8);
        out.put_slice(&[0; 3]);
        // Chunks are at most MAX_PAYLOAD long.
        out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        out.put_slice(payload);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_payload() {
        assert_eq!(&frame(Channel::Stderr, b"hi")[..], b"\x02\0\0\0\0\0\0\x02hi");
        assert!(frame(Channel::Stdout, b"").is_empty());
        let long = vec![7; MAX_PAYLOAD + 1];
        let framed = frame(Channel::Stdout, &long);
        assert_eq!(framed.len(), long.len() + 16);
        assert_eq!(framed[8 + MAX_PAYLOAD..][..8], [1, 0, 0, 0, 0, 0, 0, 1]);
    }
}
