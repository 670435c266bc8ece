//! `docker system df`.

use bollard_stubs::models::{
    BuildCacheDiskUsage, ContainersDiskUsage, ImagesDiskUsage, SystemDataUsageResponse,
    VolumesDiskUsage,
};
use serde::Serialize;

use crate::container::Phase;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::options::ListOptions;

impl Engine {
    /// What images, containers and volumes take.
    ///
    /// # Errors
    /// When something cannot be measured.
    pub async fn system_df(&self) -> Result<SystemDataUsageResponse> {
        Ok(SystemDataUsageResponse {
            image_usage: Some(self.image_usage()?),
            container_usage: Some(self.container_usage().await?),
            volume_usage: Some(self.volumes_usage().await?),
            build_cache_usage: Some(BuildCacheDiskUsage {
                active_count: Some(0),
                total_count: Some(0),
                reclaimable: Some(0),
                total_size: Some(0),
                items: Some(Vec::new()),
            }),
        })
    }

    fn image_usage(&self) -> Result<ImagesDiskUsage> {
        let images =
            self.inner.images.list(&skep_image::ListFilter { all: true, ..Default::default() })?;
        let usage = self.inner.images.disk_usage();
        let used: u64 = images
            .iter()
            .filter(|i| !self.image_users(&i.id).is_empty())
            .map(|i| usage.images.iter().find(|u| u.id == i.id).map_or(0, |u| u.size))
            .sum();
        let items: Vec<_> =
            images.iter().map(|i| self.image_summary(i, Some(&usage.images), true)).collect();
        let active = items.iter().filter(|i| i.containers > 0).count();
        Ok(ImagesDiskUsage {
            active_count: number(active as u64),
            total_count: number(items.len() as u64),
            reclaimable: number(usage.layers.saturating_sub(used)),
            total_size: number(usage.layers),
            items: Some(values(&items)?),
        })
    }

    async fn container_usage(&self) -> Result<ContainersDiskUsage> {
        let list = self
            .container_list(ListOptions { all: true, size: true, ..ListOptions::default() })
            .await?;
        let size = |c: &bollard_stubs::models::ContainerSummary| c.size_rw.unwrap_or(0);
        let running = |c: &&bollard_stubs::models::ContainerSummary| {
            c.state.is_some_and(|s| matches!(s.as_ref(), "running" | "paused" | "restarting"))
        };
        Ok(ContainersDiskUsage {
            active_count: number(list.iter().filter(running).count() as u64),
            total_count: number(list.len() as u64),
            reclaimable: Some(list.iter().filter(|c| !running(c)).map(size).sum()),
            total_size: Some(list.iter().map(size).sum()),
            items: Some(values(&list)?),
        })
    }

    async fn volumes_usage(&self) -> Result<VolumesDiskUsage> {
        let mut items = Vec::new();
        for (record, users) in self.volumes_all().await {
            items.push(self.volume_usage(&record, users.len()).await);
        }
        // Less than nought is one that is not counted.
        let size =
            |v: &bollard_stubs::models::Volume| v.usage_data.as_ref().map_or(0, |u| u.size.max(0));
        let used = |v: &&bollard_stubs::models::Volume| {
            v.usage_data.as_ref().is_some_and(|u| u.ref_count > 0)
        };
        Ok(VolumesDiskUsage {
            active_count: number(items.iter().filter(used).count() as u64),
            total_count: number(items.len() as u64),
            reclaimable: Some(items.iter().filter(|v| !used(v)).map(size).sum()),
            total_size: Some(items.iter().map(size).sum()),
            items: Some(values(&items)?),
        })
    }

    /// Running, paused and other containers.
    pub(crate) fn container_counts(&self) -> (i64, i64, i64) {
        let mut counts = (0, 0, 0);
        for c in self.inner.containers.all() {
            match c.phase() {
                Phase::Running | Phase::Restarting => counts.0 += 1,
                Phase::Paused => counts.1 += 1,
                _ => counts.2 += 1,
            }
        }
        counts
    }
}

fn number(n: u64) -> Option<i64> {
    i64::try_from(n).ok()
}

fn values<T: Serialize>(items: &[T]) -> Result<Vec<serde_json::Value>> {
    items
        .iter()
        .map(|item| {
            serde_json::to_value(item)
                .map_err(|e| EngineError::system("could not write down disk usage", e))
        })
        .collect()
}
