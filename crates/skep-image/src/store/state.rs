//! What is in the store, in memory, and what of it is still needed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use skep_sys::files::{Durability, remove_tree, rename};
use time::OffsetDateTime;

use super::files::Files;
use crate::{
    config::ImageConfig,
    digest::{ChainId, DiffId, Digest, ImageId},
    error::{Error, Result},
    image::Image,
    manifest::Descriptor,
    reference::Reference,
};

/// `images/<hex>.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordFile {
    /// The manifest it came with, as long as its layers are stored as that manifest has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<Descriptor>,
    /// The image it was committed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<ImageId>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    pub(super) last_tagged: Option<OffsetDateTime>,
}

/// An image in memory.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: ImageId,
    pub(crate) config: Arc<ImageConfig>,
    pub(crate) chain: Vec<ChainId>,
    pub(super) file: RecordFile,
    /// Why its configuration cannot be read; nothing is known of it then but its id.
    pub(super) damage: Option<String>,
}

impl Record {
    pub(crate) fn manifest(&self) -> Option<&Descriptor> {
        self.file.manifest.as_ref()
    }
}

/// `layers/<hex>/layer.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub(crate) diff_id: DiffId,
    pub(crate) parent: Option<ChainId>,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Name in `l/`.
    pub(crate) link: String,
    /// The tar it was unpacked from.
    pub(crate) blob: Descriptor,
}

/// `names.json`. In format 0 the names stood for themselves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NamesFile {
    pub(super) names: BTreeMap<String, ImageId>,
}

/// Everything known; guarded by one mutex that is never held over slow work.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) images: BTreeMap<ImageId, Arc<Record>>,
    /// Each with a tag or a digest, never both.
    pub(crate) names: BTreeMap<Reference, ImageId>,
    pub(crate) layers: HashMap<ChainId, Arc<Layer>>,
    /// Layers whose `layer.json` cannot be read, and why.
    pub(super) damaged: BTreeMap<ChainId, String>,
    pub(crate) blobs: HashMap<Digest, u64>,
    /// Read-write layers and the top layer of their image.
    pub(crate) rw: BTreeMap<String, Option<ChainId>>,
    /// Read-write layers of which it is not known what they lie on.
    pub(crate) lost_rw: BTreeSet<String>,
    /// Where the names are that could not be read.
    pub(super) lost_names: Option<PathBuf>,
    /// Layers and blobs that running operations need.
    pins: HashMap<Digest, usize>,
}

impl State {
    pub(super) fn pin(&mut self, digest: Digest) {
        *self.pins.entry(digest).or_default() += 1;
    }

    pub(super) fn unpin(&mut self, digest: &Digest) {
        if let Some(count) = self.pins.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(digest);
            }
        }
    }

    /// A chain of layers, top first, starting at `top`.
    pub(crate) fn ancestry(
        &self,
        top: Option<ChainId>,
    ) -> impl Iterator<Item = (ChainId, &Arc<Layer>)> {
        let at = |id: ChainId| self.layers.get(&id).map(|layer| (id, layer));
        std::iter::successors(top.and_then(at), move |(_, layer)| layer.parent.and_then(at))
    }

    pub(crate) fn size(&self, record: &Record) -> u64 {
        record.chain.iter().filter_map(|id| self.layers.get(id)).map(|layer| layer.size).sum()
    }

    pub(crate) fn names_of(&self, id: &ImageId) -> impl Iterator<Item = &Reference> {
        self.names.iter().filter(move |(_, to)| *to == id).map(|(name, _)| name)
    }

    pub(crate) fn image(&self, record: &Record) -> Image {
        let mut image = Image {
            id: record.id,
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            created: record.config.created_at(),
            last_tagged: record.file.last_tagged,
            parent: record.file.parent.filter(|parent| self.images.contains_key(parent)),
            size: self.size(record),
            config: Arc::clone(&record.config),
            layers: record.chain.clone(),
        };
        for name in self.names_of(&record.id) {
            let list = if name.digest().is_some() {
                &mut image.repo_digests
            } else {
                &mut image.repo_tags
            };
            list.push(name.familiar());
        }
        image.repo_tags.sort();
        image.repo_digests.sort();
        image
    }

    /// What is wrong with an image, if anything.
    pub(super) fn damage_of(&self, record: &Record) -> Option<String> {
        record.damage.clone().or_else(|| {
            let id = record.chain.iter().find(|id| !self.layers.contains_key(id))?;
            Some(match self.damaged.get(id) {
                Some(reason) => format!("layer {id}: {reason}"),
                None => format!("layer {id} is missing"),
            })
        })
    }

    /// Refuses an image that cannot be used.
    pub(crate) fn check_whole(&self, record: &Record) -> Result<()> {
        match self.damage_of(record) {
            Some(reason) => Err(Error::DamagedImage { image: record.id.short(), reason }),
            None => Ok(()),
        }
    }

    /// The first layer below (and including) `top` that cannot be used.
    pub(crate) fn gap(&self, top: Option<ChainId>) -> Option<ChainId> {
        let mut next = top;
        while let Some(id) = next {
            match self.layers.get(&id) {
                Some(layer) => next = layer.parent,
                None => return Some(id),
            }
        }
        None
    }

    /// Something is needed of which it is not known what it needs itself.
    fn needs_unknown(&self) -> bool {
        !self.lost_rw.is_empty()
            || self.images.values().any(|record| record.damage.is_some())
            || self.rw.values().any(|top| self.gap(*top).is_some())
            || self.damaged.keys().any(|id| self.images.values().any(|r| r.chain.contains(id)))
    }

    /// All that is wrong, for people.
    pub(super) fn problems(&self) -> Vec<String> {
        let names = |record: &Record| match self.names_of(&record.id).next() {
            Some(name) => name.familiar(),
            None => record.id.short(),
        };
        let images = self.images.values().filter_map(|record| {
            let reason = self.damage_of(record)?;
            Some(format!("image {} is damaged: {reason}", names(record)))
        });
        let rw = self.lost_rw.iter().map(|container| {
            format!(
                "the root file system of container {container} is damaged: its image is not known"
            )
        });
        let lost = self.lost_names.iter().map(|path| {
            format!(
                "the names of images could not be read and are kept in {}: remove it if it is not needed",
                path.display()
            )
        });
        images.chain(rw).chain(lost).collect()
    }

    /// Moves every layer and blob that nothing needs into `tmp/` and forgets it. Returns the paths,
    /// which the caller removes without the lock, and the layers' bytes.
    /// While something damaged is needed nothing is removed: it may need whatever is there.
    pub(crate) fn sweep(&mut self, files: &Files) -> Swept {
        if self.needs_unknown() {
            return Swept::default();
        }
        let mut needed: HashSet<Digest> = self.pins.keys().copied().collect();
        let mut tops: Vec<ChainId> = self.pins.keys().map(|d| ChainId(*d)).collect();
        for record in self.images.values() {
            needed.insert(record.id.0);
            needed.extend(record.manifest().map(|m| m.digest));
            needed.extend(record.chain.iter().map(|id| id.0));
            let layers = record.chain.iter().filter_map(|id| self.layers.get(id));
            needed.extend(layers.map(|layer| layer.blob.digest));
        }
        tops.extend(self.rw.values().flatten());
        for top in tops {
            let chain: Vec<_> =
                self.ancestry(Some(top)).map(|(id, layer)| (id.0, layer.blob.digest)).collect();
            needed.extend(chain.into_iter().flat_map(|(id, blob)| [id, blob]));
        }
        let mut swept = Swept::default();
        let mut away = |from: PathBuf| {
            let aside = files.aside();
            match rename(&from, &aside, Durability::Volatile) {
                Ok(()) => swept.paths.push(aside),
                Err(error) => {
                    tracing::warn!(path = %from.display(), %error, "cannot remove from the image store")
                }
            }
        };
        let dead: Vec<ChainId> =
            self.layers.keys().filter(|id| !needed.contains(&id.0)).copied().collect();
        for id in dead {
            if let Some(layer) = self.layers.remove(&id) {
                // The link first: it must never point to a folder that is gone.
                let link = files.link(&layer.link);
                if let Err(error) = std::fs::remove_file(&link) {
                    tracing::warn!(path = %link.display(), %error, "cannot remove a layer's link");
                }
                away(files.layer(&id));
                swept.layers.push((id, layer.size));
            }
        }
        // Of those nobody has said that they are whole, so that no image came to need them.
        for id in std::mem::take(&mut self.damaged).into_keys() {
            tracing::info!(layer = %id, "removing an unfinished layer");
            files.remove_links(&id);
            away(files.layer(&id));
        }
        let dead: Vec<Digest> =
            self.blobs.keys().filter(|d| !needed.contains(d)).copied().collect();
        for digest in dead {
            self.blobs.remove(&digest);
            away(files.blob(&digest));
        }
        swept
    }
}

/// What [`State::sweep`] took out.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    paths: Vec<PathBuf>,
    pub(super) layers: Vec<(ChainId, u64)>,
}

impl Swept {
    /// Frees the space. Blocking.
    pub(crate) fn remove(&self) {
        for path in &self.paths {
            if let Err(error) = remove_tree(path) {
                // Left in tmp/, which is emptied at the next open.
                tracing::warn!(path = %path.display(), %error, "cannot remove from the image store");
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}
