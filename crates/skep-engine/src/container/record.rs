//! What is kept about a container on disk: `<data root>/containers/<id>/config.json`.

use std::path::Path;

use bollard_stubs::models::{ContainerConfig, HostConfig};
use serde::{Deserialize, Serialize};
use skep_sys::files::{self, Durability};
use skep_types::stored;
use time::OffsetDateTime;

use super::attachment::Attachment;
use super::mounts::MountEntry;
use super::watch::Phase;
use crate::error::{EngineError, Result};
use crate::provider::NetworkGrant;

/// File name of the record.
pub const FILE: &str = "config.json";

/// Newest format of the record.
const FORMAT: u32 = 1;

/// A container's whole record. Spec and state are separate: `state` is written by what happens, the
/// rest by what users ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// 64 hex.
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// First word of the command line.
    pub path: String,
    /// Its other words.
    pub args: Vec<String>,
    /// `sha256:…`
    pub image_id: String,
    /// Configuration merged with the image's; `image` is the name as given.
    pub config: ContainerConfig,
    /// Host configuration with defaults filled in.
    pub host_config: HostConfig,
    /// Mounts, complete.
    pub mounts: Vec<MountEntry>,
    /// Networks, in the order of interfaces.
    pub attachments: Vec<Attachment>,
    /// Chosen by hand for the swarm's tasks: not changed by network names in `host_config`.
    #[serde(default)]
    pub state: State,
    /// How often the restart policy has started it since a user last did.
    #[serde(default)]
    pub restart_count: i64,
    /// A user stopped it last: `unless-stopped` leaves it alone.
    #[serde(default)]
    pub stopped_by_user: bool,
}

/// What has become of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// Where in its life it is.
    pub phase: Phase,
    /// Process id on the host while it runs, else 0.
    pub pid: i32,
    /// Code of the last end.
    pub exit_code: i64,
    /// Why the last start failed; empty otherwise.
    #[serde(default)]
    pub error: String,
    /// Whether the kernel killed it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Last start.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// Last end.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// The sandbox in the network room while it runs.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// Places on networks that are not this host's own, while it runs.
    #[serde(default)]
    pub grants: Vec<NetworkGrant>,
}

impl Record {
    /// Reads the record in a container's folder. `None` when there is none: a create that the daemon
    /// did not survive.
    ///
    /// # Errors
    /// When it cannot be read or holds something else.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => stored::decode(FORMAT, &bytes)
                .map(Some)
                .map_err(|source| EngineError::State { path, source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(EngineError::File { action: "read", path, source }),
        }
    }

    /// Replaces the record. Lasting where a user was told so; a state is not, since what a crash of the
    /// host takes with it is one that the crash itself has overtaken. A crash of the daemon loses nothing.
    ///
    /// # Errors
    /// When the disk says no; the old record is still there then.
    pub fn save(&self, dir: &Path, durability: Durability) -> Result<()> {
        let path = dir.join(FILE);
        stored::encode(FORMAT, self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| files::replace(&path, &bytes, 0o600, durability))
            .map_err(EngineError::file("write", path))
    }

    /// Whether it gets a terminal.
    pub fn tty(&self) -> bool {
        self.config.tty.unwrap_or(false)
    }

    /// Whether it goes away when it ends.
    pub fn auto_remove(&self) -> bool {
        self.host_config.auto_remove.unwrap_or(false)
    }

    /// A label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Ports it exposes, `port/protocol`.
    pub fn exposed(&self) -> Vec<String> {
        self.config.exposed_ports.clone().unwrap_or_default()
    }

    /// Where its network comes from, never empty.
    pub fn network_mode(&self) -> &str {
        self.host_config.network_mode.as_deref().filter(|m| !m.is_empty()).unwrap_or("bridge")
    }
}
