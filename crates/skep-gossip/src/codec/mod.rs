//! Bytes of the gossip: memberlist's messages (an old flavour of msgpack), packets, streams and
//! encryption. Nothing here has state; everything that reads foreign bytes is bounded and answers
//! with a [`DropCause`](crate::DropCause) when it cannot read them.

mod compress;
mod crypto;
mod message;
mod msgpack;
mod packet;
mod stream;

#[cfg(test)]
pub(crate) use compress::deflate as deflate_for_tests;
pub use compress::inflate;
pub use crypto::{Keyring, KeyringError};
pub use message::{Ack, Alive, Dead, IndirectPing, Message, Nack, NodeState, Ping, Suspect};
pub use packet::{PacketOptions, open_packet, seal_packet};
pub use stream::{FrameReader, PushPull, StreamMessage, open_stream, seal_stream};

pub(crate) use packet::compound;
