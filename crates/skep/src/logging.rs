//! The daemon's own log, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, reload};

/// Levels of libraries that say too much at the daemon's own level.
const QUIET: &str = "hyper=info,h2=info,tower=info,openraft=warn,rustls=info,netlink_proto=info,\
                     libcontainer=warn,libcgroups=warn,tonic=info";

/// Changes the level of the log while the daemon runs.
pub struct LogLevel(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogLevel {
    /// From the next line on.
    pub fn set(&self, level: &str) -> Result<(), reload::Error> {
        (self.0)(filter(level))
    }
}

/// Starts logging.
pub fn start(level: &str) -> LogLevel {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "a broken invariant ended the daemon; containers go on running");
    }));
    LogLevel(Box::new(move |filter| handle.reload(filter)))
}

/// `SKEP_LOG`, in the syntax of `EnvFilter`, wins over the level.
fn filter(level: &str) -> EnvFilter {
    let quiet = if level == "trace" { "" } else { QUIET };
    EnvFilter::try_from_env("SKEP_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},{quiet}")))
}
