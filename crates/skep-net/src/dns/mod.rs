//! The embedded resolver.
//!
//! Each sandbox whose networks have names gets a UDP and a TCP socket on 127.0.0.11
//! in its own namespace; nftables leads port 53 there. `core` decides what a query's
//! answer is (pure), `server` reads and writes the sockets, `forward` asks the
//! outside. The sockets can be handed to a process that outlives the daemon and
//! taken back, so that queries wait rather than fail while it restarts.
//!
//! Upstream servers of the host are asked from the host's namespace: they are
//! reachable there by definition, loopback ones included. Servers that a container
//! brought itself (`--dns`) are asked from its own namespace, because they may live
//! on its networks. A container whose networks all are internal has no upstream.

pub(crate) mod core;
mod forward;
mod resolvconf;
mod server;

pub use self::core::look_up;
pub use forward::Upstream;
pub use resolvconf::ResolvConf;
pub use server::{Directory, Resolver, SandboxView, Sockets};
