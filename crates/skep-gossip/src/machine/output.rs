use crate::names::{EntryId, NodeName};
use crate::time::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// Names one stream between the machine and its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(crate) u64);

/// Something for the driver to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a UDP packet.
    Packet {
        /// To whom.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Connect by TCP, write `bytes`, and read one frame if `expects_reply`. Report the outcome
    /// exactly once: [`stream_reply`], [`stream_sent`] or [`stream_failed`].
    ///
    /// [`stream_reply`]: super::Gossip::handle_stream_reply
    /// [`stream_sent`]: super::Gossip::handle_stream_sent
    /// [`stream_failed`]: super::Gossip::handle_stream_failed
    Stream {
        /// To be given back with the outcome.
        token: Token,
        /// To whom.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
        /// Whether the other side answers.
        expects_reply: bool,
        /// After this it has failed.
        timeout: Duration,
    },
    /// Something to know.
    Event(Event),
}

/// A change of what this node believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node came, or came back.
    NodeUp {
        /// Who.
        name: NodeName,
        /// Where.
        address: SocketAddr,
        /// Since when.
        since: Moment,
    },
    /// A node failed: its entries are gone until it comes back.
    NodeDown {
        /// Who.
        name: NodeName,
        /// Where.
        address: SocketAddr,
        /// Since when.
        since: Moment,
    },
    /// A node left, or another one has its address: its entries are gone.
    NodeLeft {
        /// Who.
        name: NodeName,
        /// Where.
        address: SocketAddr,
        /// Since when.
        since: Moment,
    },
    /// A node answers others and not this one: its entries are gone from here until it does.
    NodeUnreachable {
        /// Who.
        name: NodeName,
        /// Where.
        address: SocketAddr,
        /// Since when.
        since: Moment,
    },
    /// It answers this node again.
    NodeReachable {
        /// Who.
        name: NodeName,
        /// Where.
        address: SocketAddr,
        /// Since when.
        since: Moment,
    },
    /// Another node asks something; to be answered with [`answer_node`](super::Gossip::answer_node) once that is so. It
    /// may ask again.
    Asked {
        /// Who.
        from: NodeName,
        /// For the answer.
        number: u64,
        /// What.
        question: Vec<u8>,
    },
    /// Another node answered.
    Answered {
        /// Who.
        from: NodeName,
        /// To which question.
        number: u64,
    },
    /// An entry of another node appeared.
    EntryCreated {
        /// Which.
        id: EntryId,
        /// Its value.
        value: Vec<u8>,
        /// Whose.
        owner: NodeName,
    },
    /// An entry of another node has a new value, or a new owner.
    EntryUpdated {
        /// Which.
        id: EntryId,
        /// Its value.
        value: Vec<u8>,
        /// Whose.
        owner: NodeName,
    },
    /// An entry of another node is gone.
    EntryDeleted {
        /// Which.
        id: EntryId,
        /// The last value seen.
        value: Vec<u8>,
        /// Whose.
        owner: NodeName,
    },
    /// This node's good-bye has been sent as often as is useful; the driver may stop.
    LeaveDone,
}

/// A visible entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// Which.
    pub id: &'a EntryId,
    /// Its value.
    pub value: &'a [u8],
    /// Whose.
    pub owner: &'a NodeName,
}

/// What [`Gossip::put`](super::Gossip::put) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The entry is new.
    Created,
    /// It had another value, or another owner.
    Updated,
    /// It was like this already; nothing was sent.
    Unchanged,
}

/// Why a command was refused; nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Entries can only be in networks that this node is in.
    #[error("this node is not in gossip network {network}")]
    NotJoined {
        /// The network.
        network: crate::names::NetworkId,
    },
    /// NetworkDB builds paths of these names.
    #[error("the gossip name {name:?} is empty or contains a slash")]
    Name {
        /// The table or key.
        name: String,
    },
    /// The entry does not exist, or belongs to another node.
    #[error("this node has no gossip entry {table}/{key} in network {network}", network = .0.network,
        table = .0.table, key = .0.key)]
    NotOurs(EntryId),
    /// The value is too large to travel.
    #[error("a gossip value of {len} bytes; {limit} are possible")]
    Value {
        /// Length of the value.
        len: usize,
        /// Longest possible.
        limit: usize,
    },
    /// After leaving nothing more can be said.
    #[error("this node has left the gossip cluster")]
    Left,
}
