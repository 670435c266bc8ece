use super::msgpack::{Reader, Writer};
use crate::counters::DropCause;
use std::net::{IpAddr, SocketAddr};

type Result<T> = std::result::Result<T, DropCause>;

pub(crate) const PING: u8 = 0;
pub(crate) const INDIRECT_PING: u8 = 1;
pub(crate) const ACK: u8 = 2;
pub(crate) const SUSPECT: u8 = 3;
pub(crate) const ALIVE: u8 = 4;
pub(crate) const DEAD: u8 = 5;
pub(crate) const PUSH_PULL: u8 = 6;
pub(crate) const COMPOUND: u8 = 7;
pub(crate) const USER: u8 = 8;
pub(crate) const COMPRESS: u8 = 9;
pub(crate) const ENCRYPT: u8 = 10;
pub(crate) const NACK: u8 = 11;
pub(crate) const CRC: u8 = 12;
pub(crate) const ERROR: u8 = 13;
pub(crate) const LABEL: u8 = 244;

/// What nodes believe of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// It answers.
    Alive = 0,
    /// It did not answer; it has some time to deny it.
    Suspect = 1,
    /// It did not deny it.
    Dead = 2,
    /// It said good-bye.
    Left = 3,
}

impl NodeState {
    pub(crate) fn from_wire(value: u32) -> Result<Self> {
        match value {
            0 => Ok(Self::Alive),
            1 => Ok(Self::Suspect),
            2 => Ok(Self::Dead),
            3 => Ok(Self::Left),
            _ => Err(DropCause::Malformed),
        }
    }
}

/// Are you there, `node`?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// Number of the question.
    pub seq: u32,
    /// Who is asked; another node at that address must not answer.
    pub node: String,
    /// Where the answer goes; `None`: where the question came from.
    pub source: Option<SocketAddr>,
    /// Who asks; may be empty.
    pub source_node: String,
}

/// Ask `node` at `target` for me.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndirectPing {
    /// Number of the asker's question.
    pub seq: u32,
    /// Where `node` is said to be.
    pub target: SocketAddr,
    /// Who is asked.
    pub node: String,
    /// Whether the asker wants to hear when there is no answer.
    pub nack: bool,
    /// Where the answer goes.
    pub source: Option<SocketAddr>,
    /// Who asks; may be empty.
    pub source_node: String,
}

/// I am here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Number of the question.
    pub seq: u32,
}

/// I asked for you, and got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// Number of the asker's question.
    pub seq: u32,
}

/// `from` got no answer from `node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// The incarnation that is suspected.
    pub incarnation: u32,
    /// Who is suspected.
    pub node: String,
    /// Who suspects.
    pub from: String,
}

/// `node` did not deny; or, `from` the node itself, it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The incarnation that died.
    pub incarnation: u32,
    /// Who died.
    pub node: String,
    /// Who says so.
    pub from: String,
}

/// `node` lives at `address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Only a higher one overrules.
    pub incarnation: u32,
    /// Who lives.
    pub node: String,
    /// Where.
    pub address: SocketAddr,
    /// Free bytes; skep and Docker have none.
    pub meta: Vec<u8>,
    /// Protocol versions: least, most, current of memberlist, then of what is above it.
    pub versions: Option<[u8; 6]>,
}

/// One message of memberlist, as packets carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// See [`Ping`].
    Ping(Ping),
    /// See [`IndirectPing`].
    IndirectPing(IndirectPing),
    /// See [`Ack`].
    Ack(Ack),
    /// See [`Nack`].
    Nack(Nack),
    /// See [`Suspect`].
    Suspect(Suspect),
    /// See [`Alive`].
    Alive(Alive),
    /// See [`Dead`].
    Dead(Dead),
    /// A message of the tables.
    User(Vec<u8>),
}

impl Message {
    /// Type byte and body.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ping(ping) => ping.encode(),
            Self::IndirectPing(ping) => ping.encode(),
            Self::Ack(ack) => {
                let mut writer = Writer::after(vec![ACK]);
                writer.map(2);
                writer.raw(b"Payload");
                writer.nil();
                writer.raw(b"SeqNo");
                writer.unsigned(ack.seq);
                writer.finish()
            }
            Self::Nack(nack) => {
                let mut writer = Writer::after(vec![NACK]);
                writer.map(1);
                writer.raw(b"SeqNo");
                writer.unsigned(nack.seq);
                writer.finish()
            }
            Self::Suspect(m) => verdict(SUSPECT, &m.from, m.incarnation, &m.node),
            Self::Dead(m) => verdict(DEAD, &m.from, m.incarnation, &m.node),
            Self::Alive(alive) => alive.encode(),
            Self::User(payload) => {
                let mut bytes = Vec::with_capacity(payload.len() + 1);
                bytes.push(USER);
                bytes.extend_from_slice(payload);
                bytes
            }
        }
    }

    /// Reads type byte and body. Bytes after the body are ignored, as Go does.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (&kind, body) = bytes.split_first().ok_or(DropCause::Truncated)?;
        let mut reader = Reader::new(body);
        match kind {
            PING => read_ping(&mut reader).map(Self::Ping),
            INDIRECT_PING => read_indirect_ping(&mut reader).map(Self::IndirectPing),
            ACK => read_seq(&mut reader).map(|seq| Self::Ack(Ack { seq })),
            NACK => read_seq(&mut reader).map(|seq| Self::Nack(Nack { seq })),
            SUSPECT => {
                let (from, incarnation, node) = read_verdict(&mut reader)?;
                Ok(Self::Suspect(Suspect { incarnation, node, from }))
            }
            DEAD => {
                let (from, incarnation, node) = read_verdict(&mut reader)?;
                Ok(Self::Dead(Dead { incarnation, node, from }))
            }
            ALIVE => read_alive(&mut reader).map(Self::Alive),
            USER => Ok(Self::User(body.to_vec())),
            _ => Err(DropCause::UnknownType),
        }
    }
}

impl Ping {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::after(vec![PING]);
        writer.map(2 + source_fields(self.source, &self.source_node));
        writer.raw(b"Node");
        writer.raw(self.node.as_bytes());
        writer.raw(b"SeqNo");
        writer.unsigned(self.seq);
        write_source(&mut writer, self.source, &self.source_node);
        writer.finish()
    }
}

impl IndirectPing {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::after(vec![INDIRECT_PING]);
        writer.map(5 + source_fields(self.source, &self.source_node));
        writer.raw(b"Nack");
        writer.flag(self.nack);
        writer.raw(b"Node");
        writer.raw(self.node.as_bytes());
        writer.raw(b"Port");
        writer.unsigned(u32::from(self.target.port()));
        writer.raw(b"SeqNo");
        writer.unsigned(self.seq);
        write_source(&mut writer, self.source, &self.source_node);
        writer.raw(b"Target");
        write_ip(&mut writer, self.target.ip());
        writer.finish()
    }
}

impl Alive {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::after(vec![ALIVE]);
        writer.map(6);
        writer.raw(b"Addr");
        write_ip(&mut writer, self.address.ip());
        writer.raw(b"Incarnation");
        writer.unsigned(self.incarnation);
        writer.raw(b"Meta");
        writer.raw(&self.meta);
        writer.raw(b"Node");
        writer.raw(self.node.as_bytes());
        writer.raw(b"Port");
        writer.unsigned(u32::from(self.address.port()));
        writer.raw(b"Vsn");
        writer.raw(self.versions.as_ref().map_or(&[][..], |v| v));
        writer.finish()
    }
}

fn verdict(kind: u8, from: &str, incarnation: u32, node: &str) -> Vec<u8> {
    let mut writer = Writer::after(vec![kind]);
    writer.map(3);
    writer.raw(b"From");
    writer.raw(from.as_bytes());
    writer.raw(b"Incarnation");
    writer.unsigned(incarnation);
    writer.raw(b"Node");
    writer.raw(node.as_bytes());
    writer.finish()
}

fn read_verdict(reader: &mut Reader<'_>) -> Result<(String, u32, String)> {
    let (mut from, mut incarnation, mut node) = (String::new(), 0, String::new());
    reader.map(|key, value| {
        match key {
            b"From" => from = value.text()?.to_owned(),
            b"Incarnation" => incarnation = value.unsigned()?,
            b"Node" => node = value.text()?.to_owned(),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok((from, incarnation, node))
}

fn read_seq(reader: &mut Reader<'_>) -> Result<u32> {
    let mut seq = 0;
    reader.map(|key, value| match key {
        b"SeqNo" => {
            seq = value.unsigned()?;
            Ok(())
        }
        _ => value.skip(),
    })?;
    Ok(seq)
}

fn read_ping(reader: &mut Reader<'_>) -> Result<Ping> {
    let (mut seq, mut node, mut source) = (0, String::new(), Source::default());
    reader.map(|key, value| {
        match key {
            b"SeqNo" => seq = value.unsigned()?,
            b"Node" => node = value.text()?.to_owned(),
            _ => source.read(key, value)?,
        }
        Ok(())
    })?;
    Ok(Ping { seq, node, source: source.address()?, source_node: source.node })
}

fn read_indirect_ping(reader: &mut Reader<'_>) -> Result<IndirectPing> {
    let (mut seq, mut node, mut source) = (0, String::new(), Source::default());
    let (mut target, mut port, mut nack) = (None, 0, false);
    reader.map(|key, value| {
        match key {
            b"SeqNo" => seq = value.unsigned()?,
            b"Node" => node = value.text()?.to_owned(),
            b"Target" => target = read_ip(value.raw()?)?,
            b"Port" => port = value.unsigned()?,
            b"Nack" => nack = value.flag()?,
            _ => source.read(key, value)?,
        }
        Ok(())
    })?;
    let target = SocketAddr::new(target.ok_or(DropCause::Malformed)?, port);
    let source_address = source.address()?;
    Ok(IndirectPing { seq, target, node, nack, source: source_address, source_node: source.node })
}

fn read_alive(reader: &mut Reader<'_>) -> Result<Alive> {
    let (mut incarnation, mut node, mut meta) = (0, String::new(), Vec::new());
    let (mut ip, mut port, mut versions) = (None, 0, None);
    reader.map(|key, value| {
        match key {
            b"Addr" => ip = read_ip(value.raw()?)?,
            b"Incarnation" => incarnation = value.unsigned()?,
            b"Meta" => meta = value.raw()?.to_vec(),
            b"Node" => node = value.text()?.to_owned(),
            b"Port" => port = value.unsigned()?,
            b"Vsn" => versions = read_versions(value.raw()?),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    let address = SocketAddr::new(ip.ok_or(DropCause::Malformed)?, port);
    Ok(Alive { incarnation, node, address, meta, versions })
}

/// The three fields that say who asks.
#[derive(Default)]
struct Source {
    ip: Option<IpAddr>,
    port: u16,
    node: String,
}

impl Source {
    fn read(&mut self, key: &[u8], value: &mut Reader<'_>) -> Result<()> {
        match key {
            b"SourceAddr" => self.ip = read_ip(value.raw()?)?,
            b"SourceNode" => self.node = value.text()?.to_owned(),
            b"SourcePort" => self.port = value.unsigned()?,
            _ => value.skip()?,
        }
        Ok(())
    }

    fn address(&self) -> Result<Option<SocketAddr>> {
        match self.ip {
            Some(_) if self.port == 0 => Err(DropCause::Malformed),
            Some(ip) => Ok(Some(SocketAddr::new(ip, self.port))),
            None => Ok(None),
        }
    }
}

fn source_fields(source: Option<SocketAddr>, node: &str) -> u8 {
    u8::from(source.is_some()) * 2 + u8::from(!node.is_empty())
}

fn write_source(writer: &mut Writer, source: Option<SocketAddr>, node: &str) {
    if let Some(source) = source {
        writer.raw(b"SourceAddr");
        write_ip(writer, source.ip());
    }
    if !node.is_empty() {
        writer.raw(b"SourceNode");
        writer.raw(node.as_bytes());
    }
    if let Some(source) = source {
        writer.raw(b"SourcePort");
        writer.unsigned(u32::from(source.port()));
    }
}

/// Peers compare addresses byte for byte, so IPv4 always travels as four bytes.
pub(crate) fn write_ip(writer: &mut Writer, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => writer.raw(&ip.octets()),
        IpAddr::V6(ip) => writer.raw(&ip.octets()),
    }
}

pub(crate) fn read_ip(bytes: &[u8]) -> Result<Option<IpAddr>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let ip = if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(four)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(bytes).map_err(|_| DropCause::Malformed)?)
    };
    Ok(Some(ip.to_canonical()))
}

pub(crate) fn read_versions(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.get(..6).and_then(|six| six.try_into().ok())
}
