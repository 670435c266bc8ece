//! Containers whose record cannot be read.
//!
//! What such a record cannot say is not guessed, and nothing is done because of it: the container's folder,
//! root file system, process and network stay as they are. It is shown as dead with the reason, and refuses
//! everything but being looked at and removed. Whether the file is repaired (the next start then takes the
//! container over, running or not) or the container removed is the user's choice. Only who made it and has given
//! it up, as a swarm its task's, has its processes ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard_stubs::models::{ContainerConfig, HostConfig};
use serde::Deserialize as _;
use skep_container::{ControlError, Handle, Status};
use skep_net::SandboxId;

use super::cell::Container;
use super::names;
use super::reach::is_lost;
use super::record::{self, Record, State};
use super::start::join_error;
use super::watch::Phase;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::util;

/// What its user can do about it.
const REMEDY: &str =
    "repair the file and restart the daemon, or remove the container (docker rm -f)";

/// A container that stands for what is in a folder; `None` if the folder's name is no container's id.
pub fn container(dir: &Path, error: &EngineError) -> Option<Arc<Container>> {
    let id = dir.file_name()?.to_str()?.to_owned();
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let created = std::fs::metadata(dir).and_then(|meta| meta.modified());
    let legible = Legible::read(dir, &id);
    let record = Record {
        name: legible.name.unwrap_or_default(),
        created: created.map_or_else(|_| util::now(), Into::into),
        path: String::new(),
        args: Vec::new(),
        image_id: String::new(),
        config: ContainerConfig { labels: Some(legible.labels), ..ContainerConfig::default() },
        host_config: HostConfig::default(),
        mounts: Vec::new(),
        attachments: Vec::new(),
        state: State {
            phase: Phase::Dead,
            error: format!("{}: {REMEDY}", error.report()),
            ..State::default()
        },
        restart_count: 0,
        stopped_by_user: false,
        id,
    };
    Some(Container::damaged(record, dir.to_owned()))
}

/// What a record says of which more cannot be understood: one of a newer format, or one of which a part is lost.
#[derive(Debug, Default, PartialEq, Eq)]
struct Legible {
    name: Option<String>,
    /// All of them, or none.
    labels: HashMap<String, String>,
}

impl Legible {
    fn read(dir: &Path, id: &str) -> Self {
        let Ok(bytes) = skep_sys::files::read_existing(&dir.join(record::FILE)) else {
            return Self::default();
        };
        let whole: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        let (name, labels) = match (&whole, str::from_utf8(&bytes)) {
            (Some(value), _) => {
                let labels = value.pointer("/config/Labels");
                let labels = labels.and_then(|labels| HashMap::deserialize(labels).ok());
                (value.get("name").and_then(|name| name.as_str()), labels)
            }
            (None, Ok(text)) => {
                let name = name_after(text, id);
                // Without the name before it, it may be anything's.
                (name, name.and_then(|_| labels_in(text)))
            }
            (None, Err(_)) => (None, None),
        };
        let name = name.filter(|name| names::check(name).is_ok()).map(str::to_owned);
        Self { name, labels: labels.unwrap_or_default() }
    }
}

/// The labels in what is left of a record, as we write it: those of its mounts come later.
fn labels_in(text: &str) -> Option<HashMap<String, String>> {
    // Within a value the quotation marks would be escaped.
    let (_, config) = text.split_once("\"config\"")?;
    let config = config.split("\"host_config\"").next()?;
    let (_, rest) = config.split_once("\"Labels\"")?;
    let rest = rest.trim_start().strip_prefix(':')?;
    serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()
}

/// The name that follows the id in what is left of a record, as we write it. Other names in it are those of
/// networks and volumes.
fn name_after<'t>(text: &'t str, id: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("\"{id}\""))?;
    let rest = rest.trim_start().strip_prefix(',')?.trim_start();
    let rest = rest.strip_prefix("\"name\"")?.trim_start();
    let rest = rest.strip_prefix(':')?.trim_start().strip_prefix('"')?;
    Some(rest.split_once('"')?.0)
}

fn stand_in(id: &str) -> String {
    format!("damaged_{}", util::short(id))
}

impl Engine {
    /// Takes a damaged container in. Where its record does not say its name, the network of what runs may.
    pub(super) fn insert_damaged(&self, c: &Arc<Container>) {
        let (sandbox, name) = self.inner.net.sandbox_of(&c.id).unzip();
        c.change(|r| {
            r.state.sandbox = sandbox.map(|id| id.to_string());
            if r.name.is_empty() {
                r.name = name
                    .filter(|name| names::check(name).is_ok())
                    .unwrap_or_else(|| stand_in(&r.id));
            }
        });
        self.settle_name(c);
        tracing::error!(
            container = c.id,
            name = c.name(),
            reason = c.read(|r| r.state.error.clone()),
            "a container's record cannot be read: the container is left alone"
        );
        self.inner.containers.insert(c.clone());
    }

    /// Reserves the name of a container that was found. If another has it, as one that was made while this
    /// one's record could not be read, it gets one of its own, as Docker makes them: nobody could ask for it
    /// by a name otherwise. Whether it did.
    pub(super) fn settle_name(&self, c: &Container) -> bool {
        let name = c.name();
        let free = |name: &str| self.inner.containers.reserve(Some(name), &c.id).is_ok();
        if free(&name) {
            return false;
        }
        let ends = [util::short(&c.id), &c.id];
        let longer = ends.map(|end| format!("{name}_{end}")).into_iter().find(|name| free(name));
        // Only somebody who knew the id can have taken both.
        let other = longer.unwrap_or_else(|| stand_in(&c.id));
        tracing::warn!(
            container = c.id,
            name,
            given = other,
            "another container has this one's name, it gets another"
        );
        c.change(|r| r.name = other);
        c.live(|l| l.former_name = Some(name));
        true
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
        let handle = match self.inner.runtime.connect(&c.id, &bundle).await {
            Ok(handle) => {
                let lives = match handle.state().await {
                    Ok(state) => matches!(state.status, Status::Running | Status::Paused),
                    // Without a shim nothing runs for long; of others it is not known.
                    Err(error) => !matches!(error, ControlError::Gone { .. }),
                };
                if lives && !force {
                    return Err(may_run());
                }
                Some(handle)
            }
            Err(error) if !force && !is_lost(&error) => return Err(may_run()),
            Err(_) => None,
        };
        self.take_down_damaged(c, handle).await
    }

    /// Ends the processes of a container whose record cannot be read, for whoever made it and has no use for it
    /// any more. Its record and its files stay. Nothing happens to one that is whole.
    ///
    /// # Errors
    /// `NoSuchContainer`; what the shim or the kernel says.
    pub async fn container_end_damaged(&self, container: &str) -> Result<()> {
        let c = self.inner.containers.find_any(container)?;
        if !c.is_damaged() {
            return Ok(());
        }
        let this = self.clone();
        tokio::spawn(async move {
            this.end_damaged(&c, true).await?;
            tracing::info!(container = c.id, name = c.name(), "a damaged container was ended");
            Ok(())
        })
        .await
        .map_err(join_error)?
    }

    /// The damaged container of this name whose record does not say its labels.
    pub fn container_without_labels(&self, name: &str) -> Option<String> {
        let c = self.inner.containers.find_any(name).ok().filter(|c| c.is_damaged())?;
        let unknown = |r: &Record| r.name == name && r.config.labels.iter().all(HashMap::is_empty);
        c.read(unknown).then(|| c.id.clone())
    }

    /// What to tell about containers that are damaged, or whose name another one has.
    pub(crate) fn damaged_containers(&self) -> Vec<String> {
        let all = self.inner.containers.all();
        let damaged = all.iter().filter(|c| c.is_damaged());
        let damaged = damaged
            .map(|c| c.read(|r| format!("container {} is damaged: {}", r.name, r.state.error)));
        let renamed = all.iter().filter_map(|c| {
            let former = c.live(|l| l.former_name.clone())?;
            // It may be free again, and then it can be given back.
            all.iter().find(|other| other.name() == former && other.id != c.id)?;
            Some(format!(
                "container {} was found with the name {former}, which another container has",
                c.name()
            ))
        });
        damaged.chain(renamed).collect()
    }

    /// Refuses what would remove the things that containers do not use, for of a damaged one it is not known
    /// what it uses.
    ///
    /// # Errors
    /// `ContainerDamaged`.
    pub(crate) fn all_uses_known(&self) -> Result<()> {
        match self.inner.containers.all().iter().find(|c| c.is_damaged()) {
            Some(c) => {
                Err(EngineError::UsesUnknown { container: c.name(), file: c.file(record::FILE) })
            }
            None => Ok(()),
        }
    }

    fn bundle(&self, c: &Container) -> PathBuf {
        self.inner.config.bundles_dir().join(&c.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_what_is_left() {
        let id = "ab".repeat(32);
        let dir = tempfile::tempdir().unwrap();
        for (text, name) in [
            (format!(r#"{{"format":1,"id":"{id}","name":"web","created":"20"#), Some("web")),
            (format!("{{\n \"id\": \"{id}\",\n \"name\": \"web\",\n"), Some("web")),
            (r#"{"format":99,"name":"web","id":["of another shape"]}"#.to_owned(), Some("web")),
            (r#""mounts":[{"kind":"volume","name":"data"}]}"#.to_owned(), None),
            (format!(r#"{{"format":1,"id":"{id}","na"#), None),
            (format!(r#"{{"format":1,"id":"{id}","name":"we"#), None),
            (format!(r#"{{"format":1,"id":"{id}","name":"../web","#), None),
            (String::new(), None),
        ] {
            std::fs::write(dir.path().join(record::FILE), &text).unwrap();
            assert_eq!(Legible::read(dir.path(), &id).name.as_deref(), name, "{text}");
        }
    }

    /// By these the swarm knows its tasks' containers.
    #[test]
    fn labels_are_found_in_what_is_left() {
        let id = "ab".repeat(32);
        let labels = HashMap::from([
            ("com.docker.swarm.task.id".to_owned(), "t".to_owned()),
            ("odd".to_owned(), "\"Labels\":{\"a\":\"b\"}".to_owned()),
        ]);
        let config = ContainerConfig {
            env: Some(vec!["X=\"Labels\":{\"c\":\"d\"}".to_owned()]),
            labels: Some(labels.clone()),
            ..ContainerConfig::default()
        };
        let mount = serde_json::json!({ "Labels": { "of": "a volume" } });
        let record = |config: &ContainerConfig| {
            let (id, name) = (id.clone(), "web");
            let whole = serde_json::json!({
                "format": 99, "id": id, "name": name, "config": config, "mounts": [mount],
            });
            // Fields in the order in which they are written.
            let config = serde_json::to_string(config).unwrap();
            let text = format!(
                r#"{{"format":1,"id":"{id}","name":"{name}","config":{config},"host_config":{{"Mounts":[{mount}]"#
            );
            (whole.to_string(), text)
        };
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(dir.path().join(record::FILE), text).unwrap();
            Legible::read(dir.path(), &id).labels
        };
        let (newer, cut) = record(&config);
        assert_eq!(read(&newer), labels);
        assert_eq!(read(&cut), labels);
        let end = cut.find("Labels").unwrap() + 20;
        assert_eq!(read(&cut[..end]), HashMap::new(), "half of them");
        assert_eq!(read(&cut[40..]), HashMap::new(), "of whom?");
        let (newer, cut) = record(&ContainerConfig { labels: None, ..config });
        assert_eq!(read(&newer), HashMap::new());
        assert_eq!(read(&cut), HashMap::new(), "those of a volume");
    }
}
