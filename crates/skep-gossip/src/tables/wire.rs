//! Messages of NetworkDB (protobuf package `networkdb`).

use prost::{Enumeration, Message};

macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $($(#[$field:meta])* $field_name:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Message)]
        pub struct $name { $($(#[$field])* pub $field_name: $type,)* }
    };
}

/// What a [`GossipMessage`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum MessageType {
    Invalid = 0,
    NetworkEvent = 1,
    TableEvent = 2,
    PushPull = 3,
    BulkSync = 4,
    Compound = 5,
    NodeEvent = 6,
    /// Ours, from here on: far from what Docker may number next. Its nodes log and drop what they do not know.
    Question = 101,
    Answer = 102,
}

message! {
    /// Every payload that membership carries for the tables.
    GossipMessage {
        /// Kind of `data`.
        #[prost(enumeration = "MessageType", tag = "1")]
        r#type: i32,
        /// One encoded message.
        #[prost(bytes = "vec", tag = "2")]
        data: Vec<u8>,
    }
}

/// A coming or going, of a node or of a node in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Presence {
    Invalid = 0,
    Join = 1,
    Leave = 2,
}

message! {
    /// A node comes to, or leaves, the cluster.
    NodeEvent {
        /// Coming or going.
        #[prost(enumeration = "Presence", tag = "1")]
        r#type: i32,
        /// Network clock.
        #[prost(uint64, tag = "2")]
        l_time: u64,
        /// Who.
        #[prost(string, tag = "3")]
        node_name: String,
    }
}

message! {
    /// A node comes to, or leaves, a network.
    NetworkEvent {
        /// Coming or going.
        #[prost(enumeration = "Presence", tag = "1")]
        r#type: i32,
        /// Network clock.
        #[prost(uint64, tag = "2")]
        l_time: u64,
        /// Who.
        #[prost(string, tag = "3")]
        node_name: String,
        /// Which network.
        #[prost(string, tag = "4")]
        network_id: String,
    }
}

message! {
    /// One node in one network.
    NetworkEntry {
        /// Which network.
        #[prost(string, tag = "1")]
        network_id: String,
        /// Network clock of the last change.
        #[prost(uint64, tag = "2")]
        l_time: u64,
        /// Who.
        #[prost(string, tag = "3")]
        node_name: String,
        /// It left.
        #[prost(bool, tag = "4")]
        leaving: bool,
    }
}

message! {
    /// All that a node knows of who is in which network.
    NetworkPushPull {
        /// Sender's network clock.
        #[prost(uint64, tag = "1")]
        l_time: u64,
        /// Everything known.
        #[prost(message, repeated, tag = "2")]
        networks: Vec<NetworkEntry>,
        /// Sender.
        #[prost(string, tag = "3")]
        node_name: String,
    }
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TableEventType {
    Invalid = 0,
    Create = 1,
    Update = 2,
    Delete = 3,
}

message! {
    /// A change of an entry.
    TableEvent {
        /// What happened.
        #[prost(enumeration = "TableEventType", tag = "1")]
        r#type: i32,
        /// Table clock.
        #[prost(uint64, tag = "2")]
        l_time: u64,
        /// Owner of the entry.
        #[prost(string, tag = "3")]
        node_name: String,
        /// Network of the entry.
        #[prost(string, tag = "4")]
        network_id: String,
        /// Table of the entry.
        #[prost(string, tag = "5")]
        table_name: String,
        /// Key of the entry.
        #[prost(string, tag = "6")]
        key: String,
        /// Value; of a deletion the last one.
        #[prost(bytes = "vec", tag = "7")]
        value: Vec<u8>,
        /// Seconds for which a tombstone is still to be kept.
        #[prost(int32, tag = "8")]
        residual_reap_time: i32,
    }
}

message! {
    /// All entries of some networks.
    BulkSyncMessage {
        /// Sender's table clock.
        #[prost(uint64, tag = "1")]
        l_time: u64,
        /// The receiver is to send its own.
        #[prost(bool, tag = "2")]
        unsolicited: bool,
        /// Sender.
        #[prost(string, tag = "3")]
        node_name: String,
        /// The networks.
        #[prost(string, repeated, tag = "4")]
        networks: Vec<String>,
        /// An encoded compound [`GossipMessage`] of table events.
        #[prost(bytes = "vec", tag = "5")]
        payload: Vec<u8>,
    }
}

message! {
    /// Part of a [`CompoundMessage`].
    SimpleMessage {
        /// An encoded [`GossipMessage`].
        #[prost(bytes = "vec", tag = "1")]
        payload: Vec<u8>,
    }
}

message! {
    /// Several messages in one.
    CompoundMessage {
        /// The parts.
        #[prost(message, repeated, tag = "1")]
        messages: Vec<SimpleMessage>,
    }
}

message! {
    /// Asks one node whether it has done something.
    QuestionMessage {
        /// Who asks.
        #[prost(string, tag = "1")]
        node_name: String,
        /// Who is asked: its address may be another's by now.
        #[prost(string, tag = "2")]
        to: String,
        /// Tells the questions of who asks apart.
        #[prost(uint64, tag = "3")]
        number: u64,
        /// What is asked.
        #[prost(bytes = "vec", tag = "4")]
        question: Vec<u8>,
    }
}

message! {
    /// Says yes.
    AnswerMessage {
        /// Who answers.
        #[prost(string, tag = "1")]
        node_name: String,
        /// The question's number.
        #[prost(uint64, tag = "2")]
        number: u64,
    }
}

impl GossipMessage {
    /// `message` as a payload of `kind`.
    pub fn wrap(kind: MessageType, message: &impl Message) -> Vec<u8> {
        Self { r#type: kind as i32, data: message.encode_to_vec() }.encode_to_vec()
    }

    /// Payloads as one.
    pub fn compound(parts: Vec<Vec<u8>>) -> Vec<u8> {
        let messages = parts.into_iter().map(|payload| SimpleMessage { payload }).collect();
        Self::wrap(MessageType::Compound, &CompoundMessage { messages })
    }
}
