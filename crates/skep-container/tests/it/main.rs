//! Real containers from a busybox root. Needs root and control groups.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod attach;
mod exec;
mod fixture;
mod full;
mod lifecycle;
mod logs;
mod numbers;
mod odd;
mod outlive;
mod security;
