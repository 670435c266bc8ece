//! Whole nodes over real sockets and disks, with a host that only pretends to run containers.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod crash;
mod damage;
mod fake;
mod flow;
mod full_disk;
mod join;
mod lock;
mod rig;
