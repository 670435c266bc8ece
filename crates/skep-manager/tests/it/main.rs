//! Managers over real disks and loopback TLS sockets.

mod ca;
mod crash;
mod dispatcher;
mod hostile;
mod leaving;
mod rig;
