//! A node's side of a swarm: keeps a session with one manager, runs the tasks it assigns and reports
//! what becomes of them.
//!
//! ```text
//!  manager ──Session, Assignments──▶ session ──▶ worker ──▶ one state machine per task ──▶ Controller
//!          ◀─UpdateTaskStatus, logs──        ◀── board  ◀──
//! ```
//! The worker and its tasks do not depend on a session: what was assigned is in a database on disk,
//! and goes on while no manager answers and after a restart. The session is level-triggered: each new
//! one gets the whole assignment and reports every task's last status.
//!
//! What runs containers is behind [`Executor`] and [`Controller`], which belong to this crate.
//! Stopping the agent leaves containers alone.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod agent;
mod board;
mod configure;
mod db;
mod dependencies;
mod exec_error;
mod executor;
mod logs;
mod session;
mod strays;
mod task;
mod template;
#[cfg(test)]
mod tests;
mod view;
mod worker;

pub use agent::{Agent, AgentConfig, StartError};
pub use db::DatabaseError;
pub use dependencies::Dependencies;
pub use exec_error::{Cause, ExecError};
pub use executor::{Controller, Executor};
pub use logs::{LogOptions, LogRecord, LogSource, LogStream, Tail};
pub use template::TemplateError;
pub use view::{Link, ManagerAddress, SessionView};

/// This moment.
fn now() -> skep_types::Timestamp {
    skep_types::Timestamp::new(time::OffsetDateTime::now_utc())
}
