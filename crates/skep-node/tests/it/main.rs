//! Whole nodes over real sockets and disks, with a host that only pretends to run containers.

mod crash;
mod damage;
mod fake;
mod flow;
mod full_disk;
mod join;
mod lock;
mod rig;
