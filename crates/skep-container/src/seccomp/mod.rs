//! System call filters: Docker's profiles in, kernel programs out.
//!
//! The compiler is ours because the ready-made one (seccompiler) has one action per filter, kills on
//! the second architecture of a host (32-bit programs) and knows no profile of Docker's: its default
//! one needs a second errno (clone3 → ENOSYS), and a user's own may mix any actions.

mod compile;
mod profile;
mod syscalls;

pub use compile::{CompileError, compile};
pub use profile::{ProfileError, default_profile, parse_profile};
