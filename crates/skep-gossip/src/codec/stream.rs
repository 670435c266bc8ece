use super::compress::{deflate, inflate};
use super::crypto::Keyring;
use super::message::{self, Ack, Alive, Message, NodeState, Ping};
use super::msgpack::{Reader, Writer};
use crate::counters::DropCause;

type Result<T> = std::result::Result<T, DropCause>;

const HEAD: usize = 5;
/// Nesting of compressions in a stream; Go's writes exactly one.
const MAX_DEPTH: usize = 2;

/// All that a node knows of the cluster, given to another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushPull {
    /// The sender is (re)joining.
    pub join: bool,
    /// Each member with its state.
    pub nodes: Vec<(Alive, NodeState)>,
    /// A message of the tables.
    pub user_state: Vec<u8>,
}

/// What one side of a stream says. Each side says at most one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMessage {
    /// Answered with the same kind.
    PushPull(PushPull),
    /// A message of the tables; no answer.
    User(Vec<u8>),
    /// Answered with an acknowledgement.
    Ping(Ping),
    /// Answer to a ping.
    Ack(Ack),
    /// The other side could not do what was asked.
    Error(String),
}

impl StreamMessage {
    /// Type byte and body.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::PushPull(state) => encode_push_pull(state),
            Self::User(payload) => {
                let mut writer = Writer::after(vec![message::USER]);
                writer.map(1);
                writer.raw(b"UserMsgLen");
                writer.signed(payload.len());
                let mut bytes = writer.finish();
                bytes.extend_from_slice(payload);
                bytes
            }
            Self::Ping(ping) => Message::Ping(ping.clone()).encode(),
            Self::Ack(ack) => Message::Ack(*ack).encode(),
            Self::Error(text) => {
                let mut writer = Writer::after(vec![message::ERROR]);
                writer.map(1);
                writer.raw(b"Error");
                writer.raw(text.as_bytes());
                writer.finish()
            }
        }
    }

    /// Reads type byte and body.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (&kind, body) = bytes.split_first().ok_or(DropCause::Truncated)?;
        let mut reader = Reader::new(body);
        match kind {
            message::PUSH_PULL => read_push_pull(&mut reader).map(Self::PushPull),
            message::USER => {
                let len = read_one(&mut reader, b"UserMsgLen", |value| value.unsigned())?;
                Ok(Self::User(reader.take(len.unwrap_or(0))?.to_vec()))
            }
            message::ERROR => {
                let text = read_one(&mut reader, b"Error", |v| v.text().map(str::to_owned))?;
                Ok(Self::Error(text.unwrap_or_default()))
            }
            message::PING | message::ACK => match Message::decode(bytes)? {
                Message::Ping(ping) => Ok(Self::Ping(ping)),
                Message::Ack(ack) => Ok(Self::Ack(ack)),
                _ => Err(DropCause::UnknownType),
            },
            _ => Err(DropCause::UnknownType),
        }
    }
}

fn read_one<T>(
    reader: &mut Reader<'_>,
    name: &[u8],
    read: impl Fn(&mut Reader<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut found = None;
    reader.map(|key, value| {
        if key == name {
            found = Some(read(value)?);
            Ok(())
        } else {
            value.skip()
        }
    })?;
    Ok(found)
}

fn encode_push_pull(state: &PushPull) -> Vec<u8> {
    let mut writer = Writer::after(vec![message::PUSH_PULL]);
    writer.map(3);
    writer.raw(b"Join");
    writer.flag(state.join);
    writer.raw(b"Nodes");
    writer.signed(state.nodes.len());
    writer.raw(b"UserStateLen");
    writer.signed(state.user_state.len());
    for (node, state) in &state.nodes {
        writer.map(7);
        writer.raw(b"Addr");
        message::write_ip(&mut writer, node.address.ip());
        writer.raw(b"Incarnation");
        writer.unsigned(node.incarnation);
        writer.raw(b"Meta");
        writer.raw(&node.meta);
        writer.raw(b"Name");
        writer.raw(node.node.as_bytes());
        writer.raw(b"Port");
        writer.unsigned(u32::from(node.address.port()));
        writer.raw(b"State");
        writer.signed(*state as usize);
        writer.raw(b"Vsn");
        writer.raw(node.versions.as_ref().map_or(&[][..], |v| v));
    }
    let mut bytes = writer.finish();
    bytes.extend_from_slice(&state.user_state);
    bytes
}

fn read_push_pull(reader: &mut Reader<'_>) -> Result<PushPull> {
    let head = read_push_pull_head(reader)?;
    let mut nodes = Vec::new();
    for _ in 0..head.nodes {
        nodes.push(read_node(reader)?);
    }
    let user_state = reader.take(head.user_state)?.to_vec();
    Ok(PushPull { join: head.join, nodes, user_state })
}

#[derive(Default)]
struct PushPullHead {
    join: bool,
    nodes: usize,
    user_state: usize,
}

fn read_push_pull_head(reader: &mut Reader<'_>) -> Result<PushPullHead> {
    let mut head = PushPullHead::default();
    reader.map(|key, value| {
        match key {
            b"Join" => head.join = value.flag()?,
            b"Nodes" => head.nodes = value.unsigned()?,
            b"UserStateLen" => head.user_state = value.unsigned()?,
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok(head)
}

fn read_node(reader: &mut Reader<'_>) -> Result<(Alive, NodeState)> {
    let (mut incarnation, mut node, mut meta) = (0, String::new(), Vec::new());
    let (mut ip, mut port, mut versions, mut state) = (None, 0, None, NodeState::Alive);
    reader.map(|key, value| {
        match key {
            b"Addr" => ip = message::read_ip(value.raw()?)?,
            b"Incarnation" => incarnation = value.unsigned()?,
            b"Meta" => meta = value.raw()?.to_vec(),
            b"Name" => node = value.text()?.to_owned(),
            b"Port" => port = value.unsigned()?,
            b"State" => state = NodeState::from_wire(value.unsigned()?)?,
            b"Vsn" => versions = message::read_versions(value.raw()?),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    let address = std::net::SocketAddr::new(ip.ok_or(DropCause::Malformed)?, port);
    Ok((Alive { incarnation, node, address, meta, versions }, state))
}

/// The bytes of one side of a stream. memberlist always compresses streams, even if they grow.
pub fn seal_stream(message: &StreamMessage, keyring: Option<&Keyring>, nonce: [u8; 12]) -> Vec<u8> {
    let plain = deflate(&message.encode());
    let Some(keyring) = keyring else { return plain };
    let len = u32::try_from(Keyring::sealed_len(plain.len())).expect("streams are below 20 MiB");
    let mut frame = vec![message::ENCRYPT];
    frame.extend(len.to_be_bytes());
    let sealed = keyring.seal(nonce, &frame, &plain);
    frame.extend(sealed);
    frame
}

/// What one side of a stream said; `frame` is what [`FrameReader`] cut out. `inflated` bounds what
/// it may grow to; bytes.
pub fn open_stream(
    frame: &[u8],
    keyring: Option<&Keyring>,
    inflated: usize,
) -> Result<StreamMessage> {
    let opened = match (keyring, frame.first()) {
        (_, Some(&message::LABEL)) => return Err(DropCause::Label),
        (_, None) => return Err(DropCause::Truncated),
        (Some(keyring), Some(&message::ENCRYPT)) => {
            let (head, sealed) = frame.split_at_checked(HEAD).ok_or(DropCause::Truncated)?;
            Some(keyring.open(head, sealed)?)
        }
        (None, Some(&message::ENCRYPT)) => return Err(DropCause::NoKey),
        (Some(_), Some(_)) => return Err(DropCause::NotEncrypted),
        (None, Some(_)) => None,
    };
    let mut plain = std::borrow::Cow::Borrowed(opened.as_deref().unwrap_or(frame));
    for _ in 0..MAX_DEPTH {
        match plain.split_first() {
            Some((&message::COMPRESS, body)) => plain = inflate(body, inflated)?.into(),
            _ => return StreamMessage::decode(&plain),
        }
    }
    Err(DropCause::TooDeep)
}

/// Cuts one side of a stream out of bytes as they arrive; holds at most `limit` of them.
///
/// An encrypted frame says its length. A plain one does not: it ends where its message does, which
/// is followed here without reading anything twice but the last unfinished value.
#[derive(Debug)]
pub struct FrameReader {
    bytes: Vec<u8>,
    limit: usize,
    encrypted: bool,
    plain: Plain,
}

/// How far a plain message is followed.
#[derive(Debug)]
enum Plain {
    Start,
    Nodes { at: usize, left: usize, user_state: usize },
    Until(usize),
}

impl FrameReader {
    /// A reader of at most `limit` bytes. With `encrypted` plain frames are refused at their first
    /// byte.
    pub fn new(limit: usize, encrypted: bool) -> Self {
        Self { bytes: Vec::new(), limit, encrypted, plain: Plain::Start }
    }

    /// Takes bytes in. `Ok(true)`: the frame is complete and more bytes are ignored. After an error
    /// the stream is of no use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.bytes.len() + bytes.len() > self.limit + HEAD {
            return Err(DropCause::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        self.complete()
    }

    /// The frame; call it when [`push`](Self::push) said that it is complete.
    pub fn into_frame(self) -> Vec<u8> {
        self.bytes
    }

    fn complete(&mut self) -> Result<bool> {
        let end = match self.bytes.first() {
            None => return Ok(false),
            Some(&message::LABEL) => return Err(DropCause::Label),
            Some(&message::ENCRYPT) if !self.encrypted => return Err(DropCause::NoKey),
            Some(&message::ENCRYPT) => match self.bytes.first_chunk::<HEAD>() {
                Some([_, len @ ..]) => HEAD.saturating_add(u32::from_be_bytes(*len) as usize),
                None => return Ok(false),
            },
            Some(_) if self.encrypted => return Err(DropCause::NotEncrypted),
            Some(_) => match self.follow() {
                Ok(end) => end,
                Err(DropCause::Truncated) => return Ok(false),
                Err(cause) => return Err(cause),
            },
        };
        if end > self.limit + HEAD {
            return Err(DropCause::TooLarge);
        }
        if self.bytes.len() < end {
            self.plain = Plain::Until(end);
            return Ok(false);
        }
        self.bytes.truncate(end);
        Ok(true)
    }

    /// Where the plain message ends; `Truncated` while that cannot be known.
    fn follow(&mut self) -> Result<usize> {
        if let Plain::Start = self.plain {
            let body = &self.bytes[1..];
            let mut reader = Reader::new(body);
            match self.bytes[0] {
                message::PUSH_PULL => {
                    let head = read_push_pull_head(&mut reader)?;
                    self.plain = Plain::Nodes {
                        at: 1 + reader.position(),
                        left: head.nodes,
                        user_state: head.user_state,
                    };
                }
                message::USER => {
                    let len: usize =
                        read_one(&mut reader, b"UserMsgLen", |v| v.unsigned())?.unwrap_or(0);
                    self.plain = Plain::Until((1 + reader.position()).saturating_add(len));
                }
                message::PING | message::ACK | message::ERROR | message::COMPRESS => {
                    reader.skip()?;
                    self.plain = Plain::Until(1 + reader.position());
                }
                _ => return Err(DropCause::UnknownType),
            }
        }
        while let Plain::Nodes { at, left, user_state } = &mut self.plain {
            if *left == 0 {
                self.plain = Plain::Until(at.saturating_add(*user_state));
                break;
            }
            let mut reader = Reader::new(&self.bytes[*at..]);
            read_node(&mut reader)?;
            *at += reader.position();
            *left -= 1;
        }
        match self.plain {
            Plain::Until(end) => Ok(end),
            Plain::Start | Plain::Nodes { .. } => Err(DropCause::Truncated),
        }
    }
}
