//! Looking things up. All in memory.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Images, Inner,
    files::is_there,
    filter,
    state::{Record, State},
};
use crate::{
    digest::{ChainId, ImageId},
    error::{Error, Result},
    image::{DiskUsage, HistoryEntry, Image, ImageUsage, ListFilter},
    reference::{AnyReference, Reference},
};

impl State {
    /// By whole id, name, or unique id prefix, in this order.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Record>> {
        let found = match Reference::parse_any(name)? {
            AnyReference::Id(id) => {
                return self
                    .images
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| Error::NoSuchImage(name.into()));
            }
            AnyReference::Name(reference) => reference,
        };
        // With both, the digest is what counts.
        let exact = match found.digest() {
            Some(digest) => found.with_digest(*digest),
            None => found.clone().tagged(),
        };
        if let Some(record) = self.names.get(&exact).and_then(|id| self.images.get(id)) {
            return Ok(Arc::clone(record));
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let missing = || Error::NoSuchImage(found.clone().tagged().familiar());
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut fits = self.images.values().filter(|record| record.id.hex().starts_with(prefix));
        match (fits.next(), fits.next()) {
            (Some(record), None) => Ok(Arc::clone(record)),
            (Some(_), Some(_)) => Err(Error::AmbiguousId(name.into())),
            _ => Err(missing()),
        }
    }

    pub(super) fn has_children(&self, id: &ImageId) -> bool {
        self.images.values().any(|record| record.file.parent.as_ref() == Some(id))
    }
}

impl Inner {
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Record>> {
        self.state().find(name)
    }
}

impl Images {
    /// Images, newest first. With a `references` filter, only the names that fit are listed.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] for an image named by `before` or `since`, [`Error::Filter`] for a
    /// malformed pattern.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<Image>> {
        let state = self.inner.looked_again();
        let time_of = |names: &[String]| -> Result<Vec<Option<OffsetDateTime>>> {
            names.iter().map(|name| Ok(state.find(name)?.config.created_at())).collect()
        };
        let (before, since) = (time_of(&filter.before)?, time_of(&filter.since)?);
        let patterns = filter::patterns(&filter.references)?;
        let mut images = Vec::new();
        for record in state.images.values() {
            let mut image = state.image(record);
            let dangling = image.is_dangling();
            let keep = filter.dangling.is_none_or(|want| want == dangling)
                && (filter.all || !dangling || !state.has_children(&record.id))
                && filter.labels.iter().all(|label| label.fits(|key| record.config.label(key)))
                && !filter
                    .without_labels
                    .iter()
                    .any(|label| label.fits(|key| record.config.label(key)))
                && before.iter().all(|time| image.created < *time)
                && since.iter().all(|time| image.created > *time)
                && filter
                    .until
                    .is_none_or(|until| image.created.is_some_and(|created| created < until));
            if !keep {
                continue;
            }
            if !patterns.is_empty() {
                image.repo_tags.retain(|name| patterns.iter().any(|p| p.fits(name)));
                image.repo_digests.retain(|name| patterns.iter().any(|p| p.fits(name)));
                if image.is_dangling() {
                    continue;
                }
            }
            images.push(image);
        }
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// An image by name, whole id, or unique id prefix.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousId`], [`Error::Reference`].
    pub fn get(&self, name: &str) -> Result<Image> {
        let state = self.inner.looked_again();
        let record = state.find(name)?;
        Ok(state.image(&record))
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.inner.state().images.len()
    }

    /// What of the store cannot be read, for people. It is left as it is.
    pub fn problems(&self) -> Vec<String> {
        let mut state = self.inner.looked_again();
        if state.lost_names.as_ref().is_some_and(|path| !is_there(path)) {
            state.lost_names = None;
        }
        state.problems()
    }

    /// The bytes of an image's configuration document, whose digest is its id.
    ///
    /// # Errors
    /// As [`Images::get`], and when the file cannot be read. Blocking, but short.
    pub fn raw_config(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.inner.files.blob(&self.inner.find(name)?.id.0);
        skep_sys::files::read_existing(&path).map_err(Error::store("read", &path))
    }

    /// How an image came about, newest step first.
    ///
    /// # Errors
    /// As [`Images::get`].
    pub fn history(&self, name: &str) -> Result<Vec<HistoryEntry>> {
        let state = self.inner.state();
        let record = state.find(name)?;
        let mut layers = record.chain.iter();
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for step in &record.config.history {
            let layer = if step.empty_layer { None } else { layers.next() };
            let size = layer.and_then(|id| state.layers.get(id)).map_or(0, |layer| layer.size);
            let created =
                step.created.as_deref().and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
            entries.push(HistoryEntry {
                id: None,
                created,
                created_by: step.created_by.clone(),
                tags: Vec::new(),
                size,
                comment: step.comment.clone(),
            });
        }
        entries.reverse();
        let mut ancestor = Some(record);
        for entry in &mut entries {
            let Some(image) = ancestor else { break };
            entry.id = Some(image.id);
            entry.tags = state.image(&image).repo_tags;
            ancestor = image.file.parent.and_then(|parent| state.images.get(&parent).cloned());
        }
        Ok(entries)
    }

    /// What the store takes.
    pub fn disk_usage(&self) -> DiskUsage {
        let state = self.inner.state();
        let mut users: BTreeMap<ChainId, u32> = BTreeMap::new();
        for record in state.images.values() {
            for chain in record.chain.iter().collect::<HashSet<_>>() {
                *users.entry(*chain).or_default() += 1;
            }
        }
        let images = state.images.values().map(|record| {
            let shared =
                record.chain.iter().filter(|chain| users.get(chain).is_some_and(|n| *n > 1));
            let shared =
                shared.filter_map(|chain| state.layers.get(chain)).map(|layer| layer.size).sum();
            ImageUsage { id: record.id, size: state.size(record), shared }
        });
        DiskUsage {
            layers: state.layers.values().map(|layer| layer.size).sum(),
            blobs: state.blobs.values().sum(),
            images: images.collect(),
        }
    }

    /// Overlay lower directories of an image, top first; never empty.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::DamagedImage`].
    pub fn lowerdirs(&self, image: &ImageId) -> Result<Vec<PathBuf>> {
        self.inner.lowerdirs(image)
    }
}
