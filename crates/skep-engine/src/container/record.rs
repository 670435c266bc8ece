//! What is kept about a container on disk: `<data root>/containers/<id>/config.json`.

use std::path::Path;

use bollard_stubs::models::{ContainerConfig, HostConfig};
use serde::{Deserialize, Serialize};
use skep_sys::files::{self, Durability};
use skep_types::stored;
use time::OffsetDateTime;

use super::attachment::Attachment;
use super::layout;
use super::mounts::{MountEntry, MountKind};
use super::watch::Phase;
use crate::error::{EngineError, Result};
use crate::provider::NetworkGrant;

/// File name of the record.
pub const FILE: &str = "config.json";

/// Folders of containers that are being made and removed begin so.
pub const MAKING: &str = ".making-";
/// See [`MAKING`].
pub const REMOVED: &str = ".removed-";

/// It may hold secrets, in its environment for example.
const MODE: u32 = 0o600;
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
    #[serde(
        serialize_with = "layout::write::<layout::ContainerConfig, _>",
        deserialize_with = "layout::read::<layout::ContainerConfig, _>"
    )]
    pub config: ContainerConfig,
    /// Host configuration with defaults filled in.
    #[serde(
        serialize_with = "layout::write::<layout::HostConfig, _>",
        deserialize_with = "layout::read::<layout::HostConfig, _>"
    )]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Reads the record in a container's folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be read, or is another container's.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = match files::read(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(EngineError::NoRecord { path }),
            Err(source) => return Err(EngineError::File { action: "read", path, source }),
        };
        let record: Self =
            stored::decode(FORMAT, &bytes).map_err(|source| EngineError::State { path, source })?;
        if dir.file_name().is_none_or(|name| *name != *record.id) {
            return Err(EngineError::StrayRecord { dir: dir.to_owned(), id: record.id });
        }
        Ok(record)
    }

    /// Makes the folder of a new container with its record: prepared under a name of our own and renamed
    /// into place, so that a folder of a container is never without one. It is on disk then.
    ///
    /// # Errors
    /// When the disk says no; nothing is left then.
    pub fn make(&self, dir: &Path) -> Result<()> {
        let aside = dir.with_file_name(format!("{MAKING}{}", self.id));
        let make = || -> std::io::Result<()> {
            files::make_dir(&aside, 0o710)?;
            let path = aside.join(FILE);
            files::replace(&path, &self.encode()?, MODE, Durability::Volatile)?;
            // Both at once; most file systems write once for it.
            files::sync_file(&path)?;
            files::sync_dir(&aside)?;
            files::rename_new(&aside, dir)?;
            files::sync_parent(dir)
        };
        make().map_err(|source| {
            if let Err(error) = files::remove_tree(&aside) {
                tracing::warn!(path = %aside.display(), %error, "could not remove a half-made container");
            }
            EngineError::File { action: "create", path: dir.to_owned(), source }
        })
    }

    /// Replaces the record. Lasting where a user was told so; a state is not, since what a crash of the
    /// host takes with it is one that the crash itself has overtaken. A crash of the daemon loses nothing.
    ///
    /// # Errors
    /// When the disk says no; the old record is still there then.
    pub fn save(&self, dir: &Path, durability: Durability) -> Result<()> {
        let path = dir.join(FILE);
        self.encode()
            .and_then(|bytes| files::replace(&path, &bytes, MODE, durability))
            .map_err(EngineError::file("write", path))
    }

    fn encode(&self) -> std::io::Result<Vec<u8>> {
        Ok(stored::encode(FORMAT, self)?)
    }

    /// Whether it gets a terminal.
    pub fn tty(&self) -> bool {
        self.config.tty.unwrap_or(false)
    }

    /// Whether it goes away when it ends.
    pub fn auto_remove(&self) -> bool {
        self.host_config.auto_remove.unwrap_or(false)
    }

    /// Names of the volumes among its mounts.
    pub fn volumes(&self) -> Vec<String> {
        let volumes = self.mounts.iter().filter(|m| m.kind == MountKind::Volume);
        volumes.map(|m| m.name.clone()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Everything a record can hold, as format 1 has it. The file is never changed: a record that is written
    /// otherwise is of another format.
    const EVERY_FIELD: &str = include_str!("../../tests/data/format-1/config.json");

    fn in_folder(id: &str, text: &str) -> Result<Record> {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join(id);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(FILE), text).unwrap();
        Record::load(&dir)
    }

    #[test]
    fn every_field_of_format_1_is_read_and_written() {
        let golden: Value = serde_json::from_str(EVERY_FIELD).unwrap();
        let record = in_folder(golden["id"].as_str().unwrap(), EVERY_FIELD).unwrap();
        assert_eq!(record.host_config.cpu_shares, Some(7));
        let again: Value = serde_json::from_slice(&record.encode().unwrap()).unwrap();
        assert_eq!(again, golden);
    }

    #[test]
    fn a_record_of_another_container_is_none_of_this_one() {
        let error = in_folder("other", EVERY_FIELD).unwrap_err();
        assert!(matches!(error, EngineError::StrayRecord { .. }), "{error}");
    }

    #[test]
    fn a_folder_is_made_whole_or_not_at_all() {
        let golden: Value = serde_json::from_str(EVERY_FIELD).unwrap();
        let record = in_folder(golden["id"].as_str().unwrap(), EVERY_FIELD).unwrap();
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(&record.id);
        record.make(&dir).unwrap();
        assert_eq!(Record::load(&dir).unwrap().name, record.name);
        // There is one already: it stays as it is, and nothing is left beside it.
        std::fs::write(dir.join("log"), "line").unwrap();
        assert!(record.make(&dir).is_err());
        assert_eq!(std::fs::read(dir.join("log")).unwrap(), b"line");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
