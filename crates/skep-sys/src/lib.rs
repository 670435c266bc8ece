//! The kernel by hand: system calls that no safe wrapper offers.
//!
//! The only crate that may use `unsafe`. What it exports is safe to call: every function checks or
//! upholds the conditions of the system calls behind it, and each `unsafe` block says which.
//! Keep policy out of here: a module wraps one kernel facility and returns `std::io::Error`
//! (or an `errno`), and the caller says what it was trying to do.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

pub mod aside;
pub mod bpf;
pub mod caps;
pub mod files;
pub mod malloc;
pub mod mountinfo;
pub mod mounts;
pub mod netlink;
pub mod netns;
pub mod process;
pub mod scm;
pub mod seccomp;
pub mod signals;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::disallowed_methods, reason = "tests make files as they like")]
pub mod testing;
pub mod tty;
