//! The control API: a user's request against the store, as pure functions.
//!
//! Each checks its request completely before it decides anything, and returns the actions to propose.
//! Messages are Docker's where Docker has one, because scripts match on them. Nothing here depends on
//! who asks; authorization is the door's.
//!
//! Objects are named by full id here. Doors turn what a user typed into an id with the `find_…`
//! methods of [`Store`](crate::Store).

mod attachment;
mod cluster;
mod config;
mod container_spec;
mod endpoint_spec;
mod error;
mod keys;
mod mode;
mod names;
mod network;
mod node;
mod reference;
mod secret;
mod service;
mod subnets;
mod task_spec;

pub use attachment::{attach_network, detach_network};
pub use cluster::{
    ClusterSeed, DEFAULT_SLOW_FOLLOWER_ENTRIES, DEFAULT_SNAPSHOT_INTERVAL, KeyRotation,
    create_cluster, update_cluster,
};
pub use config::{create_config, remove_config, update_config};
pub use error::ControlError;
pub use keys::{network_keys_exposed, rotate_network_keys};
pub(crate) use network::{VNI_RANGE, is_predefined, networks_of};
pub use network::{create_network, remove_network};
pub use node::{remove_node, update_node};
pub use reference::is_image_reference;
pub use secret::{create_secret, remove_secret, update_secret};
pub use service::{create_service, remove_service, rollback_service, update_service};

use skep_types::{Meta, Version};

pub(crate) fn check_version(meta: &Meta, given: Version) -> Result<(), ControlError> {
    if meta.version == given {
        Ok(())
    } else {
        Err(ControlError::conflict("update out of sequence"))
    }
}
