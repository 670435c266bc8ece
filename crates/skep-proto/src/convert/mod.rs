//! Conversions between messages and cluster objects, one file per family.
//!
//! Encoding borrows (`From<&Object>`); decoding consumes the message and may fail. What the cluster
//! objects do not carry (`NodeDescription.csi_info`, cluster volumes, indices) is dropped on decoding.

mod basic;
mod cluster;
mod container;
mod enums;
mod mount;
mod network;
mod node;
mod secret;
mod service;
mod task;
mod util;

#[cfg(test)]
mod tests;
