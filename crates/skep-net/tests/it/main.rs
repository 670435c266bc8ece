//! The network room on a real kernel, judged by `ip`, `nft`, `ping`, `curl`, `dig`.
//!
//! Every test runs in a network and mount namespace of its own: it starts itself
//! again under `unshare`. Without the rights for that it fails, for a green test that
//! looked at nothing would be a lie.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod adoption;
mod cost;
mod full_disk;
mod harness;
mod local;
mod neighbours;
mod swarm;
mod trace;
mod undo;
