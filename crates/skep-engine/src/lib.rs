//! One host without a swarm, complete: containers, images, volumes, networks, system.
//!
//! **Promises.** Operations are named after the Engine API's, take and return its models
//! (`bollard_stubs::models`) where it has one, and fail with Docker's words ([`EngineError`]); the
//! door only translates HTTP. Containers outlive the engine: [`Engine::start`] finds them by their
//! shims and goes on as if nothing had happened, network included. A crash at any moment leaves
//! nothing half-made: what has no complete record is removed at the next start.
//!
//! **Shape.** Each container is a `container::Container`: a record on disk, live state, a lock that
//! serialises what changes its life (start, remove, connect, the handling of its end), and a watched
//! [`Glance`]. Waiting never happens under the lock, so that `kill` gets through to a container that
//! `stop` waits for. One task per running container waits for its end; nothing polls.
//!
//! The engine does not know that swarms exist. What an executor of tasks needs on top is a container
//! with a prepared list of attachments ([`Engine::container_create_with`]), [`Engine::container_watch`]
//! and [`Engine::net`]. Places on networks beyond this host, for all other containers, come from a
//! [`NetworkProvider`], which is set after the start.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod admission;
mod config;
mod container;
mod engine;
mod error;
mod events;
mod filters;
mod image;
mod network;
mod options;
mod provider;
mod reload;
mod stream;
mod system;
mod util;
mod volume;

pub use config::{EngineConfig, Reloadable};
pub use container::{Attachment, CreateExtras, Glance, HealthStatus, Labelled, Phase, random_name};
pub use engine::Engine;
pub use error::{EngineError, ErrorKind, NotRunningText, Result, report};
pub use filters::Filters;
pub use image::{ImageListOptions, ImageRemoveOptions, ProgressStream, PullOptions};
pub use options::*;
pub use provider::{NetworkGrant, NetworkProvider, NetworkWish};
pub use skep_container::{Size, StdStream};
pub use system::HostFacts;
