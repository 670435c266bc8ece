//! Who is who in a swarm: trust roots, node certificates, join tokens and TLS settings.
//!
//! A swarm has one root ([`TrustRoot`]) and a key that signs for it ([`Signer`]). Every node has a
//! key, a certificate chain and the root it trusts, together its [`Credentials`]; a [`TlsHandle`]
//! holds the current ones, and the server and client settings it gives out follow every replacement,
//! so that a renewed certificate needs no restart. [`Store`] keeps credentials on disk; [`join()`] gets
//! the first ones from a manager, [`renew()`] the next.
//!
//! Formats are Docker Swarm's, so that its nodes verify ours and the other way round. The algorithms
//! are those of `ring`: ECDSA P-256 and P-384 and RSA; a P-521 root is refused.

mod connect;
mod credentials;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod join;
mod key;
mod renew;
mod sealed_key;
mod signer;
mod store;
mod tls;
mod token;
mod trust;

pub use connect::{ConnectError, connect};
pub use credentials::{Credentials, issuer_info};
pub use error::CertError;
pub use identity::{Identity, MANAGER_OU, WORKER_OU, connection_identity, peer_identity};
pub use join::{JoinError, download_root, join, renew, renew_over};
pub use key::NodeKey;
pub use renew::renewal_delay;
pub use sealed_key::SealedKeyError;
pub use signer::{
    DEFAULT_NODE_EXPIRY, MIN_NODE_EXPIRY, NewRoot, NodeSubject, SignError, Signer, check_request,
    create_root,
};
pub use store::{Store, StoreError};
pub use tls::{
    CA_SERVER_NAME, MANAGER_SERVER_NAME, TlsConnection, TlsHandle, TlsIncoming, root_client,
    unverified_client,
};
pub use token::{JoinToken, TokenError, format_unlock_key, parse_unlock_key, root_digest};
pub use trust::TrustRoot;

/// This moment.
fn now() -> skep_types::Timestamp {
    skep_types::Timestamp::new(time::OffsetDateTime::now_utc())
}
