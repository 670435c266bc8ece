//! The system's source of chance, in the shape that the pure core takes.

use std::time::Duration;

use rand::{Rng, RngCore};
use skep_control::new_id;

/// Fills with cryptographic random bytes.
pub(crate) fn fill(out: &mut [u8]) {
    rand::rng().fill_bytes(out);
}

/// A fresh 25-character id.
pub(crate) fn id<T: From<String>>() -> T {
    new_id(&mut fill)
}

/// `span` plus or minus up to `jitter`.
pub(crate) fn around(span: Duration, jitter: Duration) -> Duration {
    let low = span.saturating_sub(jitter);
    low + (jitter * 2).mul_f64(rand::rng().random::<f64>())
}
