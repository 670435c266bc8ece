//! The daemon's own log, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Levels of libraries that say too much at the daemon's own level.
const QUIET: &str = "hyper=info,h2=info,tower=info,openraft=warn,rustls=info,netlink_proto=info,\
                     libcontainer=warn,libcgroups=warn,tonic=info";

/// Starts logging. `SKEP_LOG`, in the syntax of `tracing_subscriber::EnvFilter`, wins over the level.
pub fn start(level: &str) {
    let quiet = if level == "trace" { "" } else { QUIET };
    let filter = EnvFilter::try_from_env("SKEP_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},{quiet}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "a broken invariant ended the daemon; containers go on running");
    }));
}
