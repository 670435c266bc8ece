//! What is in the store, in memory, and what of it is still needed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use skep_sys::files::{create_new, make_dir};
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
    /// They are still where the names belong, since the disk took no change.
    pub(super) names_in_the_way: bool,
    /// Images of which the note cannot be read, and why. It stays where it is until there is a new one.
    pub(super) unread_notes: BTreeMap<ImageId, String>,
    /// Layers and blobs that running operations need.
    pub(super) pins: HashMap<Digest, usize>,
    /// What operations put in place and no image needs yet; each has a file in `pending/`.
    pub(super) pending: HashSet<Digest>,
    /// Removed images whose content is not all gone, and that content.
    pub(super) removed: BTreeMap<ImageId, HashSet<Digest>>,
    /// What belongs to no image that is known, and was not given up either.
    pub(super) unclaimed: BTreeSet<Digest>,
    /// What of that somebody is just giving up.
    pub(super) pruned: HashSet<Digest>,
}

impl State {
    pub(super) fn pin(&mut self, digest: Digest) {
        *self.pins.entry(digest).or_default() += 1;
    }

    /// Notes on disk that content which is now put in place goes if no image comes to need it.
    pub(super) fn await_image(&mut self, files: &Files, digest: Digest) -> Result<()> {
        if self.pending.contains(&digest) {
            return Ok(());
        }
        let path = files.pending(&digest);
        let note = || create_new(&path, 0o600).map(drop);
        let noted = note().or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Ok(()),
            std::io::ErrorKind::NotFound => {
                make_dir(path.parent().unwrap_or(&path), 0o700).and_then(|()| note())
            }
            _ => Err(error),
        });
        noted.map_err(Error::store("create", &path))?;
        self.pending.insert(digest);
        Ok(())
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
        let notes = self.unread_notes.iter().filter_map(|(id, reason)| {
            let record = self.images.get(id)?;
            Some(format!(
                "what was noted about image {} cannot be read and is kept: {reason}",
                names(record)
            ))
        });
        images.chain(notes).chain(rw).chain(lost).chain(self.unclaimed_told()).collect()
    }
}
