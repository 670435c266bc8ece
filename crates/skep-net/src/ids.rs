//! Identifiers used by the network room. All are opaque text; the formats are
//! Docker's: 64 hex for local objects, 25 characters of base 36 for swarm ones.

pub use skep_types::{EndpointId, NetworkId, SandboxId, ServiceId};

/// `len` bytes of chance as lower-case hex: how local ids are made. The chance
/// is an argument so that planning stays pure.
pub fn hex_id(random: &[u8]) -> String {
    use std::fmt::Write as _;
    random.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
