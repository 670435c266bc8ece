//! Building blocks of a Docker-like OCI spec. The engine picks and combines them; nothing here
//! knows of Docker's configuration objects.
//!
//! Paths inside a container's root are only ever resolved by the kernel with that root as `/`
//! ([`rootfs`]), so that no link in an image leads to the host.

mod capabilities;
mod devices;
mod environment;
mod limits;
mod mounts;
mod namespaces;
mod resources;
pub mod rootfs;
mod user;

pub use capabilities::{
    CapabilityError, all_capabilities, capabilities, default_capabilities, process_capabilities,
};
pub use devices::{
    DeviceError, default_device_rules, device, host_devices, privileged_device_rules,
};
pub use environment::{DEFAULT_PATH, Environment};
pub use limits::{RlimitError, rlimit};
pub use mounts::{
    DEFAULT_SHM_SIZE, default_mounts, masked_paths, privileged_mounts, readonly_paths,
};
pub use namespaces::{Namespace, Namespaces};
pub use resources::{Limits, Micros};
pub use user::{ResolvedUser, UserError, resolve_user};

pub(crate) use capabilities::ALL_CAPABILITIES;
pub(crate) use user::home_of;
