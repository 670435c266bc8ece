//! The replicated store as the rest of the manager sees it: reads are local and free, writes go
//! through the leader's raft log one after another.

mod cell;
mod error;
mod room;
mod writer;

pub(crate) use cell::StoreCell;
pub use cell::{Watched, Watcher};
pub(crate) use error::TransactionResult;
pub use error::{TransactionError, WriteError};
pub(crate) use room::Room;
pub(crate) use writer::{Writer, now};
