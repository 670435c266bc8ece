//! What a container did to its files: diff, export, commit.

use bollard_stubs::models::{ChangeType, FilesystemChange};
use skep_image::{ChangeKind, CommitOptions, PackOptions, Reference, RunConfig};

use super::record::Record;
use super::root;
use super::watch::Phase;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::options::ByteStream;
use crate::stream;
use crate::util;

impl Engine {
    /// Paths that differ from the image.
    ///
    /// # Errors
    /// `NoSuchContainer`; file errors.
    pub async fn container_changes(&self, container: &str) -> Result<Vec<FilesystemChange>> {
        let c = self.inner.containers.find(container)?;
        let changes = self.inner.images.changes(&c.id).await?;
        Ok(changes
            .into_iter()
            .map(|change| FilesystemChange {
                path: change.path,
                kind: match change.kind {
                    ChangeKind::Modified => ChangeType::_0,
                    ChangeKind::Added => ChangeType::_1,
                    ChangeKind::Deleted => ChangeType::_2,
                },
            })
            .collect())
    }

    /// The root file system as a tar, without what is mounted in it.
    ///
    /// # Errors
    /// `NoSuchContainer`, and if it is nested too deeply for a tar; errors later are items of the stream.
    pub async fn container_export(&self, container: &str) -> Result<ByteStream> {
        let c = self.inner.containers.find(container)?;
        self.inner.images.check_packable(&c.id).await?;
        let (this, owner) = (self.clone(), c.clone());
        let root = util::blocking(move || root::open(&this, &owner)).await?;
        let output = stream::written(move |writer| {
            let packed = skep_image::pack(&root.path(), writer, &PackOptions::default());
            drop(root);
            packed
        });
        self.container_event(&c, "export", &[]);
        Ok(output)
    }

    /// Makes an image of a container; gives its id.
    ///
    /// # Errors
    /// `Invalid` for names and changes; file errors.
    pub async fn container_commit(
        &self,
        container: &str,
        reference: Option<&str>,
        changes: Vec<String>,
        author: &str,
        message: &str,
        pause: bool,
    ) -> Result<String> {
        let c = self.inner.containers.find(container)?;
        let reference = match reference.filter(|r| !r.is_empty()) {
            Some(text) => Some(Reference::parse(text).map_err(skep_image::Error::from)?.tagged()),
            None => None,
        };
        let record = c.record();
        let options = CommitOptions {
            reference: reference.clone(),
            base: self.inner.images.get(&record.image_id).ok().map(|i| i.id),
            config: run_config(&record),
            changes,
            author: author.to_owned(),
            message: message.to_owned(),
            created_by: std::iter::once(&record.path)
                .chain(&record.args)
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
        };
        let paused = pause && c.phase() == Phase::Running;
        if paused {
            self.container_pause(&c.id).await?;
        }
        let committed = self.inner.images.commit(&c.id, options).await;
        if paused {
            match self.container_unpause(&c.id).await {
                // It ended meanwhile.
                Ok(()) | Err(EngineError::Conflict(_) | EngineError::NotRunning { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let id = committed?.to_string();
        let name = reference.map(|r| r.familiar()).unwrap_or_default();
        self.container_event(
            &c,
            "commit",
            &[("comment", message), ("imageID", &id), ("imageRef", &name)],
        );
        self.image_event("create", &id, &name);
        Ok(id)
    }
}

/// A container's configuration as an image carries it.
fn run_config(record: &Record) -> RunConfig {
    let config = record.config.clone();
    let health = config.healthcheck.map(|h| skep_image::HealthConfig {
        test: h.test.unwrap_or_default(),
        interval: h.interval.unwrap_or(0),
        timeout: h.timeout.unwrap_or(0),
        start_period: h.start_period.unwrap_or(0),
        start_interval: h.start_interval.unwrap_or(0),
        retries: h.retries.unwrap_or(0),
    });
    RunConfig {
        user: config.user.unwrap_or_default(),
        exposed_ports: config.exposed_ports.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        healthcheck: health,
        args_escaped: config.args_escaped.unwrap_or(false),
        volumes: config.volumes.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        on_build: config.on_build.unwrap_or_default(),
        stop_signal: config.stop_signal.unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: config.shell,
    }
}
