//! The remote API on port 2377: Docker Swarm's services, and our own raft messages.
//!
//! Handlers check the caller ([`crate::auth`]), convert, and leave the work to the rooms behind them.
//! Anything an agent or another manager can send wrong is a status, never a panic.

mod bounds;
mod ca;
mod control;
mod convert;
mod dispatcher;
mod gate;
mod health;
mod log_broker;
mod raft;
mod resource;
mod server;
mod status;

pub(crate) use raft::GrpcTransport;
pub(crate) use server::serve;
