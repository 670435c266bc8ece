//! Who gets a certificate: requests are kept in the node's object, and the leader signs them.

mod requests;
mod signer;

pub(crate) use requests::{RequestError, ask_first, ask_renewal, certificate_expiry, is_final};
pub(crate) use signer::run as run_signer;
