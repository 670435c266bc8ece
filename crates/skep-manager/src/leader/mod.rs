//! What only the leader does, as one lifetime.
//!
//! All loops start together once this manager leads and has applied what was committed before, and
//! end together: when leadership is lost, when the manager stops, or when any one of them ends. A loop
//! that died alone would leave a swarm that looks led and is not; so its end ends leadership's work,
//! which then starts anew from the store.

mod keys;
mod lifetime;
mod members;
mod steps;

pub(crate) use lifetime::supervise;
