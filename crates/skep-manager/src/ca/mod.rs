//! Who gets a certificate: requests are kept in the node's object, and the leader signs them.

mod requests;
mod rotation;
mod signer;

pub(crate) use requests::{
    CheckedRequest, RequestError, ask_first, ask_renewal, is_final, last_expiry,
};
pub(crate) use rotation::{changed_root, run as run_rotation, tls_info};
pub(crate) use signer::run as run_signer;
