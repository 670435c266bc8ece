//! The frame that all netlink families share: messages in a datagram, attributes in a message.

/// Bytes of a message's header.
pub const HEADER: usize = 16;
/// `NLMSG_ERROR`, which also acknowledges.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub const DONE: u16 = 3;
/// `NLM_F_REQUEST`, with `NLM_F_ACK` or `NLM_F_DUMP`.
pub const REQUEST_ACK: u16 = 1 | 4;
pub const REQUEST_DUMP: u16 = 1 | 0x300;
/// `NLA_F_NESTED`.
pub const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are its kind.
const KIND: u16 = 0x3fff;

/// A message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: u16,
    /// Number of the request that it answers.
    pub sequence: u32,
    /// All of it, header included.
    pub whole: &'a [u8],
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of a datagram, up to one that is cut short.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let whole = rest.get(..length)?;
        let message = Message {
            kind: u16::from_ne_bytes(whole.get(4..6)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(whole.get(8..12)?.try_into().ok()?),
            whole,
            body: whole.get(HEADER..)?,
        };
        // Messages are aligned to four bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The first attribute of a kind.
pub fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & KIND;
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// One attribute.
pub fn encode(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_and_attributes_come_back_as_they_were_put() {
        let body = [encode(1, b"abc"), encode(2 | NESTED, b""), encode(3, b"defg")].concat();
        let datagram = [message(5, &body), message(DONE, &[0; 4])].concat();
        let found: Vec<Message<'_>> = messages(&datagram).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].kind, found[0].sequence, found[0].body), (5, 7, &body[..]));
        assert_eq!(found[1].kind, DONE);
        let read = |kind| attribute(found[0].body, kind);
        assert_eq!(read(1), Some(&b"abc"[..]));
        assert_eq!(read(2), Some(&b""[..]));
        assert_eq!(read(3), Some(&b"defg"[..]));
        assert_eq!(read(4), None);
        // What is cut short ends the reading.
        assert_eq!(messages(&datagram[..datagram.len() - 1]).count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, kind: u16) {
            for message in messages(&bytes) {
                attribute(message.body, kind);
            }
            attribute(&bytes, kind);
        }
    }
}
