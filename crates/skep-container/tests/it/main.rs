//! Real containers from a busybox root. Needs root and control groups.

mod attach;
mod exec;
mod fixture;
mod lifecycle;
mod logs;
mod numbers;
mod outlive;
mod security;
