//! Volume operations in the API's shapes.

use std::collections::HashMap;

use bollard_stubs::models::{
    EventMessageScopeEnum as Scope, EventMessageTypeEnum as Type, Volume, VolumeCreateRequest,
    VolumeListResponse, VolumePruneResponse, VolumeScopeEnum, VolumeUsageData,
};

use super::{VolumeRecord, VolumeSpec};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::filters::Filters;
use crate::util;

impl Engine {
    /// Makes a volume, or gives the one of that name.
    ///
    /// # Errors
    /// `Invalid` for malformed names and options; `NotFound` for drivers other than `local`.
    pub async fn volume_create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        if request.cluster_volume_spec.is_some() {
            return Err(EngineError::Unavailable("cluster volumes are not supported".into()));
        }
        let spec = VolumeSpec {
            name: request.name.unwrap_or_default(),
            driver: request.driver.unwrap_or_default(),
            options: request.driver_opts.unwrap_or_default(),
            labels: request.labels.unwrap_or_default(),
        };
        self.volume_make(spec, None).await.map(|(record, _)| self.volume_model(&record))
    }

    /// Makes a volume on behalf of a container (or nobody) and tells about it. The flag says whether it is
    /// new.
    pub(crate) async fn volume_make(
        &self,
        spec: VolumeSpec,
        user: Option<&str>,
    ) -> Result<(VolumeRecord, bool)> {
        let (this, user) = (self.clone(), user.map(str::to_owned));
        let (record, new) =
            util::blocking(move || this.inner.volumes.create(spec, user.as_deref())).await?;
        if new {
            self.volume_event("create", &record.name, &[]);
        }
        Ok((record, new))
    }

    /// Takes volumes back that were made for a container which could not be.
    pub(crate) async fn volumes_take_back(&self, names: Vec<String>) {
        for name in names {
            let owned = name.clone();
            let taken = self
                .with_volumes(vec![name.clone()], move |this| this.inner.volumes.take_back(&owned))
                .await;
            match taken {
                Ok(true) => self.volume_event("destroy", &name, &[]),
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    volume = name,
                    error = &error as &dyn std::error::Error,
                    "could not take back a volume of a failed create"
                ),
            }
        }
    }

    /// Volumes by filter: `name label label! driver dangling`.
    ///
    /// # Errors
    /// `Invalid` for other filters.
    pub async fn volume_list(&self, filters: &Filters) -> Result<VolumeListResponse> {
        filters.validate(&["name", "label", "label!", "driver", "dangling"])?;
        let dangling =
            if filters.has("dangling") { Some(filters.flag("dangling", false)?) } else { None };
        let all = self.volumes_all().await;
        let damaged: Vec<String> = all.iter().filter_map(|(r, _)| r.damaged()).collect();
        let volumes = all
            .into_iter()
            .filter(|(record, users)| {
                dangling.is_none_or(|d| d == users.is_empty())
                    && filters.exact("driver", "local")
                    && filters.fuzzy("name", &record.name)
                    && label_filters(filters, &record.labels)
            })
            .map(|(record, _)| self.volume_model(&record))
            .collect();
        Ok(VolumeListResponse { volumes: Some(volumes), warnings: Some(damaged) })
    }

    /// One volume.
    ///
    /// # Errors
    /// `NoSuchVolume`.
    pub async fn volume_inspect(&self, name: &str) -> Result<Volume> {
        let (this, name) = (self.clone(), name.to_owned());
        let record = util::blocking(move || this.inner.volumes.get(&name)).await?;
        Ok(self.volume_model(&record))
    }

    /// Removes a volume. With `force` a missing one is no error.
    ///
    /// # Errors
    /// `NoSuchVolume`, `VolumeInUse`; `UsesUnknown` while a container is damaged, which may use it.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let owned = name.to_owned();
        let removed = self
            .with_volumes(vec![name.to_owned()], move |this| {
                this.inner.volumes.get(&owned)?;
                this.all_uses_known()?;
                this.inner.volumes.remove(&owned)
            })
            .await;
        match removed {
            Ok(_) => {
                self.volume_event("destroy", name, &[]);
                Ok(())
            }
            Err(EngineError::NoSuchVolume(_)) if force => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes volumes that no container names: anonymous ones, or with filter `all=true` every one.
    ///
    /// # Errors
    /// `Invalid` for filters other than `label label! all`; `UsesUnknown` while a container is damaged.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<VolumePruneResponse> {
        filters.validate(&["label", "label!", "all"])?;
        let all = filters.flag("all", false)?;
        self.all_uses_known()?;
        let (mut deleted, mut reclaimed) = (Vec::new(), 0u64);
        for (record, users) in self.volumes_all().await {
            // What cannot be read goes only when it is named.
            if !users.is_empty()
                || record.damage.is_some()
                || !(all || record.is_anonymous())
                || !label_filters(filters, &record.labels)
            {
                continue;
            }
            let size = self.volume_size(&record).await.unwrap_or(0);
            match self.volume_remove(&record.name, false).await {
                Ok(()) => {
                    reclaimed += size;
                    deleted.push(record.name);
                }
                // Somebody was faster, one way or the other.
                Err(EngineError::VolumeInUse { .. } | EngineError::NoSuchVolume(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let total = [("reclaimed".to_owned(), reclaimed.to_string())].into();
        self.inner.events.publish(Type::VOLUME, "prune", "", total, Scope::LOCAL);
        Ok(VolumePruneResponse {
            volumes_deleted: Some(deleted),
            space_reclaimed: Some(i64::try_from(reclaimed).unwrap_or(i64::MAX)),
        })
    }

    /// All volumes with the containers that name them.
    pub(crate) async fn volumes_all(&self) -> Vec<(VolumeRecord, Vec<String>)> {
        let this = self.clone();
        util::blocking(move || this.inner.volumes.all()).await
    }

    /// A container no longer names any volume.
    pub(crate) async fn release_volumes(&self, container: &str) {
        let (this, id) = (self.clone(), container.to_owned());
        util::blocking(move || this.inner.volumes.release(&id)).await;
    }

    /// Bytes in a volume; `None` for one that is a mount, whose server may not answer. Docker does not
    /// count those either.
    async fn volume_size(&self, record: &VolumeRecord) -> Option<u64> {
        if record.is_mount() {
            return None;
        }
        let (this, name) = (self.clone(), record.name.clone());
        Some(util::blocking(move || this.inner.volumes.size(&name)).await)
    }

    /// A volume with its size and how many containers name it.
    pub(crate) async fn volume_usage(&self, record: &VolumeRecord, users: usize) -> Volume {
        let size = self.volume_size(record).await;
        Volume {
            usage_data: Some(VolumeUsageData {
                size: size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)),
                ref_count: i64::try_from(users).unwrap_or(i64::MAX),
            }),
            ..self.volume_model(record)
        }
    }

    fn volume_model(&self, record: &VolumeRecord) -> Volume {
        Volume {
            name: record.name.clone(),
            driver: "local".to_owned(),
            mountpoint: self.inner.volumes.mountpoint(&record.name).to_string_lossy().into_owned(),
            created_at: Some(util::rfc3339(record.created)),
            // Docker's clients show the status of a volume that is inspected.
            status: record.damage.as_ref().map(|damage| vec![format!("damaged: {damage}")]),
            labels: record.labels.clone(),
            scope: Some(VolumeScopeEnum::LOCAL),
            cluster_volume: None,
            options: record.options.clone(),
            usage_data: None,
        }
    }

    pub(crate) fn volume_event(&self, action: &str, name: &str, extra: &[(&str, &str)]) {
        let mut attributes: HashMap<String, String> =
            [("driver".to_owned(), "local".to_owned())].into();
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.inner.events.publish(Type::VOLUME, action, name, attributes, Scope::LOCAL);
    }
}

/// The `label` and `label!` filters.
pub(crate) fn label_filters(filters: &Filters, labels: &HashMap<String, String>) -> bool {
    let lookup = |key: &str| labels.get(key).map(String::as_str);
    filters.labels("label", lookup) && filters.no_labels("label!", lookup)
}
