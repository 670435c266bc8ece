//! Which addresses a host uses in a swarm: where it listens, what it tells others, and where its
//! VXLAN traffic goes. Rules and texts are Docker's.
//!
//! Deciding is pure ([`Resolver`] over a list of [`Link`]s); reading the host's links is apart.

mod error;
mod links;
mod resolver;

pub use error::AddressError;
pub(crate) use links::{Link, host_links};
pub(crate) use resolver::Resolver;

/// Port of the swarm's remote API.
pub(crate) const DEFAULT_PORT: u16 = 2377;
