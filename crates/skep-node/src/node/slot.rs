use std::sync::Arc;

use super::member::Member;
use crate::state::State;

/// What this host is now.
#[derive(Clone)]
pub(super) enum Slot {
    Inactive,
    /// A membership is being made.
    Pending,
    Active(Arc<Member>),
    /// A manager whose raft log waits for the unlock key.
    Locked(State),
    /// A member that could not be started; it stays one.
    Failed {
        /// `None` if it cannot be read.
        state: Option<State>,
        error: String,
    },
}
