//! The one set of cluster objects of skep.
//!
//! Shapes follow the Docker Engine API's swarm objects, so that the API serves them as they are.
//! The store keeps the same structs: fields the API does not show are serialised under a key that
//! begins with `_`, and the API's door drops such keys. A JSON `null` means "absent" everywhere; the
//! doors remove nulls before decoding, so no field needs to tolerate them.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

mod annotations;
mod bytes;
pub mod check;
mod cidr;
mod cluster;
mod config;
mod container;
pub mod defaults;
mod duration;
mod id;
mod kind;
mod label;
mod meta;
pub mod moment;
mod mount;
mod network;
mod node;
mod port;
mod repeated;
mod report;
mod resources;
mod route;
mod secret;
mod service;
mod state;
pub mod stored;
mod task;
mod timestamp;

pub use annotations::Annotations;
pub use bytes::Bytes64;
pub use cidr::{Cidr, ParseCidrError};
pub use cluster::*;
pub use config::*;
pub use container::*;
pub use duration::{Nanos, SpanError};
pub use id::*;
pub use kind::ErrorKind;
pub use label::LabelFilter;
pub use meta::{Meta, Version};
pub use mount::*;
pub use network::*;
pub use node::*;
pub use port::*;
pub use repeated::Repeated;
pub use report::{errno_text, report};
pub use resources::*;
pub use route::{HostRoute, RouteKind};
pub use secret::*;
pub use service::*;
pub use state::{Mover, TaskState};
pub use task::*;
pub use timestamp::Timestamp;

use std::collections::BTreeMap;

/// Labels and options: ordered, so that equal objects serialise to equal bytes.
pub type StringMap = BTreeMap<String, String>;

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
