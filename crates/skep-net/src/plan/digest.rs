//! Short digests, by which rules are told apart.

use sha2::{Digest as _, Sha256};

/// Of a text.
pub fn digest(text: &str) -> u64 {
    first(Sha256::new_with_prefix(text))
}

/// Eight bytes of it.
pub fn first(hash: Sha256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
