//! Tests against the real kernel (as root) and a real registry.

mod archives;
mod images;
mod rootfs;
mod support;
mod unpacking;
