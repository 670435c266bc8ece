//! Containers.

mod attachment;
mod watch;

pub use attachment::{Attachment, CreateExtras};
pub use watch::{Glance, HealthStatus, Phase};
