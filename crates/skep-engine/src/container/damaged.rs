//! Containers whose record cannot be read.
//!
//! What such a record cannot say is not guessed, and nothing is done because of it: the container's folder,
//! root file system, process and network stay as they are. It is shown as dead with the reason, and refuses
//! everything but being looked at and removed. Whether the file is repaired (the next start then takes the
//! container over, running or not) or the container removed is the user's choice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard_stubs::models::{ContainerConfig, HostConfig};
use skep_container::{ControlError, Handle, Status};
use skep_net::SandboxId;

use super::adopt::is_lost;
use super::cell::Container;
use super::names;
use super::record::{self, Record, State};
use super::watch::Phase;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::util;

/// A container that stands for what is in a folder; `None` if the folder's name is no container's id.
pub fn container(dir: &Path, error: &EngineError) -> Option<Arc<Container>> {
    let id = dir.file_name()?.to_str()?.to_owned();
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let created = std::fs::metadata(dir).and_then(|meta| meta.modified());
    let record = Record {
        name: name_in(dir).unwrap_or_else(|| stand_in(&id)),
        created: created.map_or_else(|_| util::now(), Into::into),
        path: String::new(),
        args: Vec::new(),
        image_id: String::new(),
        config: ContainerConfig::default(),
        host_config: HostConfig::default(),
        mounts: Vec::new(),
        attachments: Vec::new(),
        state: State { phase: Phase::Dead, error: error.report(), ..State::default() },
        restart_count: 0,
        stopped_by_user: false,
        id,
    };
    Some(Container::damaged(record, dir.to_owned()))
}

/// The name in a record of which more cannot be understood, one of a newer format for example.
fn name_in(dir: &Path) -> Option<String> {
    let bytes = skep_sys::files::read_existing(&dir.join(record::FILE)).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    names::check(value.get("name")?.as_str()?).ok().map(str::to_owned)
}

fn stand_in(id: &str) -> String {
    format!("damaged_{}", util::short(id))
}

impl Engine {
    /// Takes a damaged container in; of a name that another one has it gets another.
    pub(super) fn insert_damaged(&self, c: &Arc<Container>) {
        if self.inner.containers.reserve(Some(&c.name()), &c.id).is_err() {
            c.change(|r| r.name = stand_in(&r.id));
        }
        let sandbox = self.inner.net.sandbox_of(&c.id);
        c.change(|r| r.state.sandbox = sandbox.map(|id| id.to_string()));
        tracing::error!(
            container = c.id,
            name = c.name(),
            reason = c.read(|r| r.state.error.clone()),
            "a container's record cannot be read: the container is left alone"
        );
        self.inner.containers.insert(c.clone());
    }

    /// Its sandbox, which is to stay, and its shim, which holds sockets of it.
    pub(super) async fn find_sandbox(
        &self,
        c: &Arc<Container>,
    ) -> Option<(SandboxId, Option<Handle>)> {
        let sandbox = c.read(|r| r.state.sandbox.clone()).map(SandboxId::new)?;
        Some((sandbox, self.inner.runtime.connect(&c.id, &self.bundle(c)).await.ok()))
    }

    /// Ends what is left of a damaged container that is being removed. The state of its process is not in
    /// its record, so the shim is asked.
    ///
    /// # Errors
    /// `RemoveRunning` without force unless it is known that its process does not live; when the shim or the kernel says no.
    pub(super) async fn end_damaged(&self, c: &Arc<Container>, force: bool) -> Result<()> {
        let _op = c.op.lock().await;
        let bundle = self.bundle(c);
        let may_run = || EngineError::RemoveRunning {
            name: format!("/{}", c.name()),
            state: "running",
            hint: "its record is damaged: repair it and restart the daemon, or force remove",
        };
        match self.inner.runtime.connect(&c.id, &bundle).await {
            Ok(handle) => {
                let lives = match handle.state().await {
                    Ok(state) => matches!(state.status, Status::Running | Status::Paused),
                    // Without a shim nothing runs for long; of others it is not known.
                    Err(error) => !matches!(error, ControlError::Gone { .. }),
                };
                if lives && !force {
                    return Err(may_run());
                }
                handle.delete().await.map_err(|e| EngineError::system("remove a shim", e))?;
            }
            Err(error) if !force && !is_lost(&error) => return Err(may_run()),
            Err(_) => self
                .inner
                .runtime
                .clean_up(&c.id, &bundle)
                .await
                .map_err(|e| EngineError::system("remove what a shim left", e))?,
        }
        let record = c.record();
        self.drop_network(c, &record).await;
        let this = self.clone();
        util::blocking(move || this.take_shared_shm(&record.id)).await;
        Ok(())
    }

    /// What to tell about containers that are damaged.
    pub(crate) fn damaged_containers(&self) -> Vec<String> {
        let all = self.inner.containers.all();
        let damaged = all.iter().filter(|c| c.is_damaged());
        damaged
            .map(|c| c.read(|r| format!("container {} is damaged: {}", r.name, r.state.error)))
            .collect()
    }

    /// Refuses what would remove the things that containers do not use, for of a damaged one it is not known
    /// what it uses.
    ///
    /// # Errors
    /// `ContainerDamaged`.
    pub(crate) fn all_uses_known(&self) -> Result<()> {
        match self.inner.containers.all().iter().find(|c| c.is_damaged()) {
            Some(c) => Err(EngineError::UsesUnknown { container: c.name() }),
            None => Ok(()),
        }
    }

    fn bundle(&self, c: &Container) -> PathBuf {
        self.inner.config.bundles_dir().join(&c.id)
    }
}
