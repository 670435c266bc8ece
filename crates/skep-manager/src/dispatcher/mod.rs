//! The manager's end of the session with each agent.
//!
//! Who is alive: an agent opens a session and beats; a node that is silent for too long is DOWN
//! ([`Sessions`], [`Pulse`], [`watchdog`]). What it should do: a stream of assignments, first complete, then
//! differences ([`assignments`]). What it did: reported statuses, of which the last per task is written
//! as soon as the disk has time ([`StatusReports`]).
//!
//! Sessions live in the leader's memory only; a new leader makes agents register again.

pub(crate) mod assignments;
mod describe;
mod pulse;
mod sessions;
mod status;
pub(crate) mod watchdog;

pub(crate) use describe::Describer;
pub(crate) use pulse::Pulse;
pub(crate) use sessions::{SessionError, Sessions};
pub(crate) use status::StatusReports;
