//! Who is in the cluster, and which endpoints exist: gossip as Docker Swarm speaks it.
//!
//! Two protocols in one pure machine, [`Gossip`]: memberlist (SWIM with Lifeguard's refinements:
//! who lives) and NetworkDB (per network, tables of entries that each belong to one node). Bytes in,
//! bytes out. Time, chance and messages are arguments; whoever drives the machine owns sockets and
//! clocks. So a cluster runs in one process under a seeded simulator (see the crate's tests).
//!
//! # What it promises
//! - Nodes that can reach each other end with equal tables: events are quick, the exchange of whole
//!   tables catches what events missed, and a table that its *owner* sent settles what the owner has
//!   and what not.
//! - No entry of a dead node is seen longer than [`Timing::death_bound`] after its death, or after
//!   the last time the network was whole.
//! - No entry of a living, reachable node is lost, whatever others believed in between.
//! - Nothing that comes in makes it panic, grow without bound, or send more than it got. What is not
//!   used is counted by cause in [`Counters`].
//!
//! # Where it goes beyond Docker's implementation, on the same wire
//! - A change leaves its node after [`Timing::gossip_delay`], not with the next round.
//! - A claim that a dead node lives is not believed: the node is asked, and must answer with a higher
//!   incarnation. memberlist forgets the dead after 30 s and believes any rumour afterwards.
//! - A new name at a taken address must answer a ping before it replaces the old one. In Docker
//!   a rumour about the *old* name evicts the new one.
//! - A node denies entries that others keep in its name and that it does not have.
//! - Entries that their owner, in a full exchange, did not send are removed.
//!
//! # How to drive it
//! Feed [`Gossip::handle_packet`], [`Gossip::handle_stream_request`] and the outcome of each
//! [`Output::Stream`]; call [`Gossip::tick`] at [`Gossip::next_deadline`]; after each call carry out
//! [`Gossip::take_outputs`].

mod codec;
mod config;
mod counters;
#[doc(hidden)]
pub mod fuzz;
mod machine;
mod membership;
mod names;
pub mod records;
mod tables;
mod time;

pub use codec::{FrameReader, Keyring, KeyringError, NodeState};
pub use config::{Config, Limits, Timing};
pub use counters::{Counters, DropCause};
pub use machine::{CommandError, EntryView, Event, Gossip, Output, Put, Token};
pub use membership::member::MemberView;
pub use names::{EntryId, Key, NetworkId, NodeName, Table};
pub use time::Moment;

#[cfg(test)]
mod tests;
