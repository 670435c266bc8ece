//! From plans to the kernel, by difference.

mod claim;
mod closing;
mod conntrack;
mod frame;
mod gate;
pub mod links;
pub mod neighbours;
mod netlink;
mod nfnetlink;
mod nft;
mod peers;
mod pins;
mod program;
mod reaper;
pub mod routes;
mod rules;
mod space;
mod survey;
mod sysctl;
mod traffic;
mod turns;
mod watch;

pub use claim::HostClaim;
pub use links::mtu_of;
pub use netlink::Netlink;
pub use nft::Nft;
pub use pins::HOST_PIN;
pub use space::{Handles, Spaces};
pub use survey::survey;
pub use traffic::{Traffic, TrafficCounts};
pub use watch::Sign;

use crate::error::{NetError, Result};
use std::io;

/// Shorthand for [`NetError::Netlink`].
fn refused(namespace: &str, action: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
    let (namespace, action) = (namespace.to_owned(), action.into());
    move |source| NetError::Netlink { action, namespace, source }
}

/// How much one step had to change.
type Applied = Result<usize>;
