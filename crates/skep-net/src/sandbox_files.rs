//! The sandboxes on disk: a file each, so that one more costs the same whatever runs already.

use crate::config::NetConfig;
use crate::error::{NetError, Result};
use crate::files::{self, Durability};
use crate::ids::SandboxId;
use crate::world::Sandbox;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

pub type Sandboxes = BTreeMap<SandboxId, Arc<Sandbox>>;

/// Of another boot it means nothing.
#[derive(Serialize, Deserialize)]
struct Stored {
    boot: String,
    sandbox: Arc<Sandbox>,
}

/// The folder.
pub struct SandboxFiles {
    folder: PathBuf,
    boot: String,
}

impl SandboxFiles {
    /// Makes the folder where there is none.
    pub fn open(config: &NetConfig) -> Result<Self> {
        let folder = config.exec_root.join("net").join("sandboxes");
        files::own_folder(&folder)?;
        Ok(Self { folder, boot: files::boot_id()? })
    }

    /// Reads all. One that cannot be read is set aside: its container gets another.
    pub fn load(&self) -> Result<Sandboxes> {
        let failed = |source| NetError::File { action: "list", path: self.folder.clone(), source };
        let mut sandboxes = Sandboxes::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension() != Some(OsStr::new("json")) {
                continue;
            }
            let Some(stored) = files::read_or_set_aside::<Stored>(&path) else { continue };
            if stored.boot == self.boot {
                sandboxes.insert(stored.sandbox.spec.id.clone(), stored.sandbox);
            } else if let Err(error) = self.remove(&stored.sandbox.spec.id) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot remove a state file of an earlier boot");
            }
        }
        Ok(sandboxes)
    }

    pub fn store(&self, sandbox: &Arc<Sandbox>) -> Result<()> {
        let stored = Stored { boot: self.boot.clone(), sandbox: Arc::clone(sandbox) };
        files::replace_json(&self.path(&sandbox.spec.id), &stored, Durability::Volatile)
    }

    /// One that is not there is no error.
    pub fn remove(&self, id: &SandboxId) -> Result<()> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(NetError::File { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// A sandbox's id is hex.
    fn path(&self, id: &SandboxId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}
