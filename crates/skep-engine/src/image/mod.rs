//! Images, in the API's shapes; the work is the image room's.

mod list;
mod transfer;

use std::collections::HashMap;

use bollard_stubs::models::{
    CreateImageInfo, EventMessageScopeEnum as Scope, EventMessageTypeEnum as Type,
    ImageDeleteResponseItem, ImagePruneResponse,
};
use skep_image::{Credentials, ImageId, ImageUser, PruneFilter, Reference, Removed};
use skep_types::LabelFilter;

use crate::container::Phase;
use crate::engine::Engine;
use crate::error::Result;
use crate::filters::Filters;
use crate::options::BoxStream;

/// Lines of progress, in Docker's JSON shape. A failure is the last item.
pub type ProgressStream = BoxStream<Result<CreateImageInfo>>;

/// Which images `list` gives.
#[derive(Debug, Clone, Default)]
pub struct ImageListOptions {
    /// Intermediate ones too.
    pub all: bool,
    /// Compute `SharedSize`.
    pub shared_size: bool,
    /// `dangling label label! before since until reference`.
    pub filters: Filters,
}

/// How to remove an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageRemoveOptions {
    /// Also with several names, or when used by a stopped container.
    pub force: bool,
    /// Keep parents without a name.
    pub no_prune: bool,
}

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Name, perhaps with a tag or digest.
    pub name: String,
    /// Tag or digest, if not in the name; every tag when neither has one (as the API does).
    pub tag: Option<String>,
    /// `os/arch[/variant]`; this host's when `None`.
    pub platform: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
}

/// A name as Docker shows it when it is missing: `busybox` is `busybox:latest`.
pub(crate) fn with_default_tag(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) => reference.tagged().familiar(),
        Err(_) => name.to_owned(),
    }
}

impl Engine {
    /// Gives an image one more name.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` names.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let target = if tag.is_empty() { repo.to_owned() } else { format!("{repo}:{tag}") };
        let shown = self.inner.images.tag(name, &target).await?;
        let id = self.inner.images.get(&shown)?.id.to_string();
        self.image_event("tag", &id, &shown);
        Ok(())
    }

    /// Removes a name of an image, and with the last one the image.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when containers use it.
    pub async fn image_remove(
        &self,
        name: &str,
        options: ImageRemoveOptions,
    ) -> Result<Vec<ImageDeleteResponseItem>> {
        let image = self.inner.images.get(name)?;
        let options =
            skep_image::RemoveOptions { force: options.force, keep_parents: options.no_prune };
        let this = self.clone();
        let removed =
            self.inner.images.remove(name, options, move |id| this.image_users(id)).await?;
        let id = image.id.to_string();
        for item in &removed {
            match item {
                Removed::Untagged(name) => self.image_event("untag", &id, name),
                Removed::Deleted(id) => self.image_event("delete", id, id),
            }
        }
        Ok(items(removed))
    }

    /// Removes images no container uses: those without a name, or with filter `dangling=false` all.
    ///
    /// # Errors
    /// `Invalid` for filters other than `dangling label label! until`; `UsesUnknown` while a container is
    /// damaged.
    pub async fn image_prune(&self, filters: &Filters) -> Result<ImagePruneResponse> {
        filters.validate(&["dangling", "label", "label!", "until"])?;
        let filter = PruneFilter {
            dangling: filters.flag("dangling", true)?,
            until: filters.until()?,
            labels: labels(filters, "label"),
            without_labels: labels(filters, "label!"),
        };
        self.all_uses_known()?;
        let this = self.clone();
        let report = self.inner.images.prune(filter, move |id| this.image_users(id)).await?;
        for item in &report.removed {
            if let Removed::Deleted(id) = item {
                self.image_event("delete", id, id);
            }
        }
        let total = [("reclaimed".to_owned(), report.reclaimed.to_string())].into();
        self.inner.events.publish(Type::IMAGE, "prune", "", total, Scope::LOCAL);
        Ok(ImagePruneResponse {
            images_deleted: Some(items(report.removed)),
            space_reclaimed: i64::try_from(report.reclaimed).ok(),
        })
    }

    /// Containers made from an image.
    pub(crate) fn image_users(&self, image: &ImageId) -> Vec<ImageUser> {
        let image = image.to_string();
        self.inner
            .containers
            .all()
            .iter()
            .filter_map(|c| {
                c.read(|r| {
                    (r.image_id == image).then(|| ImageUser {
                        container: r.id.clone(),
                        reference: r.config.image.clone().unwrap_or_default(),
                        running: matches!(
                            r.state.phase,
                            Phase::Running | Phase::Paused | Phase::Restarting
                        ),
                    })
                })
            })
            .collect()
    }

    pub(crate) fn image_event(&self, action: &str, id: &str, name: &str) {
        let mut attributes: HashMap<String, String> = match self.inner.images.get(id) {
            Ok(image) => image.config.config.labels.clone().into_iter().collect(),
            Err(_) => HashMap::new(),
        };
        attributes.insert("name".to_owned(), name.to_owned());
        // A pull is known by its name, everything else by the image.
        self.inner.events.publish(Type::IMAGE, action, id, attributes, Scope::LOCAL);
    }
}

/// Values of a label filter.
fn labels(filters: &Filters, name: &str) -> Vec<LabelFilter> {
    filters.get(name).iter().map(|text| LabelFilter::parse(text)).collect()
}

fn items(removed: Vec<Removed>) -> Vec<ImageDeleteResponseItem> {
    removed
        .into_iter()
        .map(|item| match item {
            Removed::Untagged(name) => {
                ImageDeleteResponseItem { untagged: Some(name), deleted: None }
            }
            Removed::Deleted(id) => ImageDeleteResponseItem { untagged: None, deleted: Some(id) },
        })
        .collect()
}
