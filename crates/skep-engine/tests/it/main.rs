//! The engine on a real kernel, with real containers of Debian's static busybox.
//!
//! Every test runs in a network and mount namespace of its own: it starts itself again under `unshare`.
//! Without the rights for that it fails, for a green test that looked at nothing would be a lie.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod adoption;
mod durable;
mod files;
mod hang;
mod host;
mod life;
mod network;
mod run;
mod upgrade;
