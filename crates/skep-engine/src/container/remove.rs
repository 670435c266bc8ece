//! Removing containers.

use std::sync::Arc;

use bollard_stubs::models::ContainerPruneResponse;
use skep_container::ControlError;
use skep_sys::files;

use super::cell::Container;
use super::mounts::MountKind;
use super::record::{self, Record};
use super::start::join_error;
use super::watch::Phase;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::filters::Filters;
use crate::options::{RemoveOptions, StopOptions};
use crate::util;

impl Engine {
    /// Removes a container.
    ///
    /// # Errors
    /// `RemoveRunning` without force, `RemovalInProgress`, whatever the disk says (it is `dead` then,
    /// and removal can be repeated).
    pub async fn container_remove(&self, container: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return Err(EngineError::Invalid("links are not supported".into()));
        }
        let c = self.inner.containers.find_any(container)?;
        self.remove_container(&c, options.force, options.volumes).await
    }

    pub(crate) async fn remove_container(
        &self,
        c: &Arc<Container>,
        force: bool,
        volumes: bool,
    ) -> Result<()> {
        let (this, c) = (self.clone(), c.clone());
        tokio::spawn(async move {
            if c.is_damaged() {
                this.end_damaged(&c, force).await?;
            }
            loop {
                if force && matches!(c.phase(), Phase::Running | Phase::Paused | Phase::Restarting)
                {
                    c.live(|l| l.keep = true);
                    let now = StopOptions { signal: Some("KILL".into()), timeout: None };
                    match this.stop_and_wait(&c, &now).await {
                        Err(EngineError::Control(ControlError::Hung { .. })) => {
                            this.end_hung(&c).await?;
                        }
                        Err(EngineError::ShimUnreached { .. }) => this.end_unreached(&c).await?,
                        other => other?,
                    }
                }
                match this.remove_stopped(&c, volumes).await {
                    // A start was under way and has come to its end meanwhile.
                    Err(EngineError::RemoveRunning { .. }) if force => {}
                    other => return other,
                }
            }
        })
        .await
        .map_err(join_error)?
    }

    async fn remove_stopped(&self, c: &Arc<Container>, volumes: bool) -> Result<()> {
        // Said before the lock: a removal takes it for its whole length.
        if c.phase() == Phase::Removing {
            return Err(EngineError::RemovalInProgress(c.id.clone()));
        }
        let _op = c.op.lock().await;
        let _turn = self.inner.admission.end().await;
        let refused = |state, hint| EngineError::RemoveRunning {
            name: format!("/{}", c.name()),
            state,
            hint,
        };
        match c.phase() {
            Phase::Running => {
                return Err(refused(
                    "running",
                    "stop the container before removing or force remove",
                ));
            }
            Phase::Paused => {
                return Err(refused(
                    "paused",
                    "unpause and then stop the container before removing or force remove",
                ));
            }
            Phase::Restarting => {
                return Err(refused(
                    "restarting",
                    "stop the container before removing or force remove",
                ));
            }
            Phase::Removing => return Err(EngineError::NoSuchContainer(c.id.clone())),
            Phase::Created | Phase::Exited | Phase::Dead => {}
        }
        let from = c.phase();
        c.change(|r| r.state.phase = Phase::Removing);
        let (this, owned) = (self.clone(), c.clone());
        let removed = util::blocking(move || this.remove_files(&owned)).await;
        if let Err(error) = removed {
            c.change(|r| r.state.phase = Phase::Dead);
            c.save_or_warn().await;
            return Err(error);
        }
        let record = c.record();
        self.inner.containers.remove(&c.id);
        self.release_volumes(&c.id).await;
        self.forget_execs(c);
        if volumes {
            self.remove_anonymous(&record).await;
        }
        tracing::info!(
            container = c.id,
            name = record.name,
            from = from.as_str(),
            "container removed"
        );
        self.container_event(c, "destroy", &[]);
        c.tell(|g| g.removed = true);
        Ok(())
    }

    /// Everything on disk. The folder gets another name first, with which it is no container's any more:
    /// what is left after a crash is finished at start. If its root cannot be removed, it gets its name back.
    fn remove_files(&self, c: &Container) -> Result<()> {
        let grave = c.dir.with_file_name(format!("{}{}", record::REMOVED, c.id));
        let moved = match files::rename_new(&c.dir, &grave) {
            Ok(()) => true,
            // An earlier try came so far.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(EngineError::file("remove", &c.dir)(error)),
        };
        // On disk before anything of it goes: after a crash of the host it is not a container again, without
        // its root.
        let gone = files::sync_parent(&c.dir)
            .map_err(EngineError::file("sync", &c.dir))
            .and_then(|()| Ok(self.inner.images.remove_rw(&c.id)?));
        if let Err(error) = gone {
            if moved && let Err(error) = files::rename_new(&grave, &c.dir) {
                tracing::warn!(container = c.id, %error, "could not put a container's folder back");
            }
            return Err(error);
        }
        let bundle = self.inner.config.bundles_dir().join(&c.id);
        for path in [grave, bundle] {
            files::remove_tree(&path).map_err(EngineError::file("remove", &path))?;
        }
        Ok(())
    }

    async fn remove_anonymous(&self, record: &Record) {
        for entry in record.mounts.iter().filter(|m| m.kind == MountKind::Volume && m.anonymous) {
            match self.volume_remove(&entry.name, true).await {
                // Another container took it over with --volumes-from.
                Ok(()) | Err(EngineError::VolumeInUse { .. }) => {}
                Err(error) => {
                    tracing::warn!(
                        volume = entry.name,
                        error = &error as &dyn std::error::Error,
                        "could not remove an anonymous volume"
                    );
                }
            }
        }
    }

    /// Removes all containers that do not run.
    ///
    /// # Errors
    /// `Invalid` for filters other than `label label! until`.
    pub async fn container_prune(&self, filters: &Filters) -> Result<ContainerPruneResponse> {
        filters.validate(&["label", "label!", "until"])?;
        let until = filters.until()?;
        let (mut deleted, mut reclaimed) = (Vec::new(), 0u64);
        for c in self.inner.containers.all() {
            let record = c.record();
            // What cannot be read goes only when it is named.
            let stopped = !c.is_damaged()
                && matches!(record.state.phase, Phase::Created | Phase::Exited | Phase::Dead);
            let labels = record.config.labels.clone().unwrap_or_default();
            if !stopped
                || until.is_some_and(|until| record.created > until)
                || !crate::volume::api::label_filters(filters, &labels)
            {
                continue;
            }
            let size = self.inner.images.rw_size(&c.id).await.unwrap_or(0);
            match self.remove_container(&c, false, false).await {
                Ok(()) => {
                    reclaimed += size;
                    deleted.push(c.id.clone());
                }
                // Started or removed by somebody else meanwhile.
                Err(
                    EngineError::RemoveRunning { .. }
                    | EngineError::RemovalInProgress(_)
                    | EngineError::NoSuchContainer(_),
                ) => {}
                Err(error) => {
                    tracing::warn!(
                        container = c.id,
                        error = &error as &dyn std::error::Error,
                        "could not prune a container"
                    );
                }
            }
        }
        let total = [("reclaimed".to_owned(), reclaimed.to_string())].into();
        self.inner.events.publish(
            bollard_stubs::models::EventMessageTypeEnum::CONTAINER,
            "prune",
            "",
            total,
            bollard_stubs::models::EventMessageScopeEnum::LOCAL,
        );
        Ok(ContainerPruneResponse {
            containers_deleted: Some(deleted),
            space_reclaimed: Some(i64::try_from(reclaimed).unwrap_or(i64::MAX)),
        })
    }
}
