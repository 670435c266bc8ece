//! Tests against the real kernel (as root) and a real registry.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod archives;
mod bounds;
mod damage;
mod images;
mod kept;
mod mutations;
mod registry;
mod rootfs;
mod server;
mod support;
mod unpacking;
