//! SIGHUP: the configuration file is read again, and what can change without a new start changes.
//!
//! As with Docker, labels, registries, mirrors and `debug` are taken over; here the log level as well.
//! Every other key that has changed is named in the log. A file that cannot be used changes nothing.

use anyhow::{Context as _, Result};
use skep_engine::{Engine, Reloadable};
use tracing::{error, info, warn};

use crate::args::DaemonFlags;
use crate::config::Settings;
use crate::logging::LogLevel;

pub struct Reloader {
    flags: DaemonFlags,
    /// What holds: as started, with what was taken over since.
    current: Settings,
    engine: Engine,
    log: LogLevel,
}

impl Reloader {
    pub fn new(flags: DaemonFlags, current: Settings, engine: Engine, log: LogLevel) -> Self {
        Self { flags, current, engine, log }
    }

    /// Reads the file again. Failures are logged: the daemon goes on as it was.
    pub fn reload(&mut self) {
        if let Err(error) = self.try_reload() {
            error!(
                error = &*error as &dyn std::error::Error,
                "the configuration cannot be used and stays as it was"
            );
        }
    }

    fn try_reload(&mut self) -> Result<()> {
        let new = Settings::load(&self.flags).context("read the configuration again")?;
        for key in self.current.fixed_changes(&new) {
            warn!(key, "this change takes effect when the daemon is started anew");
        }
        self.engine.reload(reloadable(&new)).context("take the configuration over")?;
        self.log.set(&new.log_level).context("change the log level")?;
        self.current.labels = new.labels;
        self.current.insecure_registries = new.insecure_registries;
        self.current.registry_mirrors = new.registry_mirrors;
        self.current.log_level = new.log_level;
        info!(
            labels = ?self.current.labels,
            insecure_registries = ?self.current.insecure_registries,
            registry_mirrors = ?self.current.registry_mirrors,
            log_level = self.current.log_level,
            "configuration reloaded"
        );
        Ok(())
    }
}

/// The engine's part of what can change.
pub fn reloadable(settings: &Settings) -> Reloadable {
    Reloadable {
        labels: settings.labels.clone(),
        insecure_registries: settings.insecure_registries.clone(),
        registry_mirrors: settings.registry_mirrors.clone(),
        debug: matches!(settings.log_level.as_str(), "debug" | "trace"),
    }
}
