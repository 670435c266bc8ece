//! Images as listed and inspected.

use std::collections::HashMap;

use bollard_stubs::models::{
    DriverData, HealthConfig, ImageConfig, ImageHistoryResponseItem, ImageInspect,
    ImageInspectMetadata, ImageInspectRootFs, ImageSummary,
};
use skep_image::{Image, ImageUsage, ListFilter, RunConfig};

use super::{ImageListOptions, labels};
use crate::engine::Engine;
use crate::error::Result;
use crate::util;

const KNOWN: &[&str] = &["dangling", "label", "label!", "before", "since", "until", "reference"];

impl Engine {
    /// Images, newest first.
    ///
    /// # Errors
    /// `Invalid` for unknown filters; `NotFound` for unknown images in `before` and `since`.
    pub async fn image_list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        let f = &options.filters;
        f.validate(KNOWN)?;
        let filter = ListFilter {
            dangling: if f.has("dangling") { Some(f.flag("dangling", false)?) } else { None },
            all: options.all,
            labels: labels(f, "label"),
            without_labels: labels(f, "label!"),
            before: f.get("before").to_vec(),
            since: f.get("since").to_vec(),
            until: f.until()?,
            references: f.get("reference").to_vec(),
        };
        let images = self.inner.images.list(&filter)?;
        let shared =
            if options.shared_size { Some(self.inner.images.disk_usage().images) } else { None };
        Ok(images.iter().map(|image| self.image_summary(image, shared.as_deref(), false)).collect())
    }

    /// One image as listed; sizes shared with others and users only where they are known or wanted.
    pub(crate) fn image_summary(
        &self,
        image: &Image,
        shared: Option<&[ImageUsage]>,
        count: bool,
    ) -> ImageSummary {
        let size = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let shared =
            shared.map(|all| all.iter().find(|u| u.id == image.id).map_or(0, |u| size(u.shared)));
        let users = count.then(|| size(self.image_users(&image.id).len() as u64));
        ImageSummary {
            id: image.id.to_string(),
            parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            repo_tags: image.repo_tags.clone(),
            repo_digests: image.repo_digests.clone(),
            created: image.created.map_or(0, |at| at.unix_timestamp()),
            size: size(image.size),
            // Docker's "not computed".
            shared_size: shared.unwrap_or(-1),
            labels: image.config.config.labels.clone().into_iter().collect(),
            containers: users.unwrap_or(-1),
            manifests: None,
            descriptor: None,
        }
    }

    /// Everything about an image.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn image_inspect(&self, name: &str) -> Result<ImageInspect> {
        let image = self.inner.images.get(name)?;
        let config = &image.config;
        let text = |s: &str| Some(s.to_owned());
        Ok(ImageInspect {
            id: Some(image.id.to_string()),
            descriptor: None,
            manifests: None,
            identity: None,
            repo_tags: Some(image.repo_tags.clone()),
            repo_digests: Some(image.repo_digests.clone()),
            comment: text(&config.comment),
            created: image.created.map(util::rfc3339),
            author: text(&config.author),
            config: Some(run_config(&config.config)),
            architecture: text(&config.architecture),
            variant: (!config.variant.is_empty()).then(|| config.variant.clone()),
            os: text(if config.os.is_empty() { "linux" } else { &config.os }),
            os_version: (!config.os_version.is_empty()).then(|| config.os_version.clone()),
            size: i64::try_from(image.size).ok(),
            graph_driver: Some(self.image_driver(&image)?),
            root_fs: Some(ImageInspectRootFs {
                typ: config.rootfs.kind.clone(),
                layers: Some(config.rootfs.diff_ids.iter().map(ToString::to_string).collect()),
            }),
            metadata: Some(ImageInspectMetadata {
                last_tag_time: Some(util::rfc3339_or_zero(image.last_tagged)),
            }),
        })
    }

    fn image_driver(&self, image: &Image) -> Result<DriverData> {
        let mut dirs = self
            .inner
            .images
            .lowerdirs(&image.id)?
            .into_iter()
            .map(|p| p.to_string_lossy().into_owned());
        let mut data = HashMap::new();
        if let Some(top) = dirs.next() {
            data.insert("UpperDir".to_owned(), top);
        }
        let lower: Vec<String> = dirs.collect();
        if !lower.is_empty() {
            data.insert("LowerDir".to_owned(), lower.join(":"));
        }
        Ok(DriverData { name: "overlay2".to_owned(), data })
    }

    /// How an image came about, newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn image_history(&self, name: &str) -> Result<Vec<ImageHistoryResponseItem>> {
        Ok(self
            .inner
            .images
            .history(name)?
            .into_iter()
            .map(|entry| ImageHistoryResponseItem {
                id: entry.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
                created: entry.created.map_or(0, |at| at.unix_timestamp()),
                created_by: entry.created_by,
                tags: entry.tags,
                size: i64::try_from(entry.size).unwrap_or(i64::MAX),
                comment: entry.comment,
            })
            .collect())
    }
}

fn run_config(config: &RunConfig) -> ImageConfig {
    ImageConfig {
        user: Some(config.user.clone()),
        exposed_ports: (!config.exposed_ports.is_empty()).then(|| config.exposed_ports.clone()),
        env: Some(config.env.clone()),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(|h| HealthConfig {
            test: Some(h.test.clone()),
            interval: Some(h.interval),
            timeout: Some(h.timeout),
            retries: Some(h.retries),
            start_period: Some(h.start_period),
            start_interval: Some(h.start_interval),
        }),
        args_escaped: config.args_escaped.then_some(true),
        volumes: (!config.volumes.is_empty()).then(|| config.volumes.clone()),
        working_dir: Some(config.working_dir.clone()),
        entrypoint: config.entrypoint.clone(),
        on_build: (!config.on_build.is_empty()).then(|| config.on_build.clone()),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone().into_iter().collect()),
        stop_signal: (!config.stop_signal.is_empty()).then(|| config.stop_signal.clone()),
        shell: config.shell.clone(),
    }
}
