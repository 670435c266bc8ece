//! What of the store's content is needed, what may go, and what is kept since nobody gave it up.
//!
//! That no note names a layer or a blob does not mean that nobody wants it: the note may be lost. So only that
//! is removed which was given up, and that is on disk before it comes to it:
//! - `pending/<digest>` stands beside what an operation has put in place and no image needs yet;
//! - `images/<id>.removed` is what was noted about an image that somebody removed: its whole content is given
//!   up. It stays until the content is gone, its configuration last, since that names the rest. It is the
//!   note itself, renamed, because a full disk has no room for another file.
//!
//! All else stays, with what it lies on, is told ([`State::problems`]), and goes when unused images are pruned.

use std::{collections::HashSet, path::PathBuf};

use skep_sys::files::{Durability, remove_file, remove_tree, rename};

use super::{
    files::Files,
    state::{Record, State},
};
use crate::{
    digest::{ChainId, Digest},
    manifest::Document,
};

impl State {
    /// Moves every layer and blob that was given up and that nothing needs into `tmp/` and forgets it. Returns
    /// the paths, which the caller removes without the lock, and the layers' bytes.
    /// While something damaged is needed nothing is removed: it may need whatever is there.
    pub(crate) fn sweep(&mut self, files: &Files) -> Swept {
        let of_images = self.needed_by_images();
        self.settle_pending(files, &of_images);
        self.unclaimed.clear();
        if self.needs_unknown() {
            return Swept::default();
        }
        let mut needed = of_images.clone();
        needed.extend(self.pins.keys());
        self.add_below(self.pins.keys().map(|d| ChainId(*d)), &mut needed);
        self.add_below(self.rw.values().flatten().copied(), &mut needed);
        let given_up = self.given_up();
        self.unclaimed =
            self.present().filter(|d| !needed.contains(d) && !given_up.contains(d)).collect();
        if self.damaged.keys().any(|id| self.unclaimed.contains(&id.0)) {
            return Swept::default();
        }
        needed.extend(&self.unclaimed);
        self.add_below(self.unclaimed.iter().map(|d| ChainId(*d)), &mut needed);
        // What names the rest of an image goes after the rest.
        let held: Vec<Digest> = self
            .removed
            .iter()
            .filter(|(id, content)| {
                content.iter().any(|d| {
                    *d != id.0 && self.has(d) && needed.contains(d) && !of_images.contains(d)
                })
            })
            .map(|(id, _)| id.0)
            .collect();
        needed.extend(held);
        let swept = self.take_out(files, &needed);
        self.settle_pending(files, &of_images);
        self.settle_removed(files);
        swept
    }

    /// Gives up what belongs to no image that is known, and sweeps.
    pub(super) fn sweep_unclaimed(&mut self, files: &Files) -> Swept {
        self.pruned = std::mem::take(&mut self.unclaimed).into_iter().collect();
        let swept = self.sweep(files);
        self.pruned.clear();
        swept
    }

    fn take_out(&mut self, files: &Files, needed: &HashSet<Digest>) -> Swept {
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
        let dead = |id: &&ChainId| !needed.contains(&id.0);
        for id in self.layers.keys().filter(dead).copied().collect::<Vec<_>>() {
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
        for id in self.damaged.keys().filter(dead).copied().collect::<Vec<_>>() {
            tracing::info!(layer = %id, "removing a layer that was given up and cannot be read");
            self.damaged.remove(&id);
            files.remove_links(&id);
            away(files.layer(&id));
        }
        let mut dead: Vec<Digest> =
            self.blobs.keys().filter(|d| !needed.contains(d)).copied().collect();
        dead.sort_by_key(|digest| self.removed.keys().any(|id| id.0 == *digest));
        for digest in dead {
            self.blobs.remove(&digest);
            away(files.blob(&digest));
        }
        swept
    }

    /// What is kept although no image is known that it belongs to, for people.
    pub(super) fn unclaimed_told(&self) -> Option<String> {
        if self.unclaimed.is_empty() {
            return None;
        }
        let bytes: u64 = self
            .unclaimed
            .iter()
            .map(|d| {
                let layer = self.layers.get(&ChainId(*d)).map_or(0, |layer| layer.size);
                layer + self.blobs.get(d).copied().unwrap_or_default()
            })
            .sum();
        Some(format!(
            "{} layers and files of the image store ({bytes} bytes) belong to no image that is known; they are \
         kept until unused images are pruned (docker image prune)",
            self.unclaimed.len()
        ))
    }

    fn needed_by_images(&self) -> HashSet<Digest> {
        let mut needed = HashSet::new();
        for record in self.images.values() {
            needed.insert(record.id.0);
            needed.extend(record.manifest().map(|m| m.digest));
            needed.extend(record.chain.iter().map(|id| id.0));
            let layers = record.chain.iter().filter_map(|id| self.layers.get(id));
            needed.extend(layers.map(|layer| layer.blob.digest));
        }
        needed
    }

    /// Layers, those below them, and their blobs.
    fn add_below(&self, tops: impl Iterator<Item = ChainId>, needed: &mut HashSet<Digest>) {
        for top in tops {
            for (id, layer) in self.ancestry(Some(top)) {
                needed.extend([id.0, layer.blob.digest]);
            }
        }
    }

    /// Something is needed of which it is not known what it needs itself.
    fn needs_unknown(&self) -> bool {
        !self.lost_rw.is_empty()
            || self.images.values().any(|record| record.damage.is_some())
            || self.rw.values().any(|top| self.gap(*top).is_some())
            || self.damaged.keys().any(|id| self.images.values().any(|r| r.chain.contains(id)))
    }

    pub(super) fn given_up(&self) -> HashSet<Digest> {
        let pending = self.pending.iter().chain(&self.pruned);
        pending.chain(self.removed.values().flatten()).copied().collect()
    }

    fn present(&self) -> impl Iterator<Item = Digest> {
        let layers = self.layers.keys().chain(self.damaged.keys()).map(|id| id.0);
        layers.chain(self.blobs.keys().copied())
    }

    fn has(&self, digest: &Digest) -> bool {
        let layer = ChainId(*digest);
        self.blobs.contains_key(digest)
            || self.layers.contains_key(&layer)
            || self.damaged.contains_key(&layer)
    }

    /// All that an image consists of, as far as that is known. What lies in a layer which cannot be read is
    /// known by the image's manifest, and where it came without one, by its configuration.
    pub(super) fn content_of(&self, files: &Files, record: &Record) -> HashSet<Digest> {
        let mut content = HashSet::from([record.id.0]);
        content.extend(record.chain.iter().map(|id| id.0));
        content.extend(record.config.rootfs.diff_ids.iter().map(|id| id.0));
        let layers = record.chain.iter().filter_map(|id| self.layers.get(id));
        content.extend(layers.map(|layer| layer.blob.digest));
        if let Some(manifest) = record.manifest() {
            content.insert(manifest.digest);
            let bytes = skep_sys::files::read(&files.blob(&manifest.digest)).ok().flatten();
            let document = bytes.and_then(|bytes| Document::parse(&bytes, None, usize::MAX).ok());
            if let Some(Document::Manifest(manifest)) = document {
                content.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
        content
    }

    /// What is gone, and what an image has come to need, is pending no more.
    fn settle_pending(&mut self, files: &Files, of_images: &HashSet<Digest>) {
        let settled =
            |d: &&Digest| of_images.contains(d) || !(self.has(d) || self.pins.contains_key(d));
        for digest in self.pending.iter().filter(settled).copied().collect::<Vec<_>>() {
            if forget(&files.pending(&digest)) {
                self.pending.remove(&digest);
            }
        }
    }

    fn settle_removed(&mut self, files: &Files) {
        let gone = |id: &&crate::digest::ImageId| {
            !self.blobs.contains_key(&id.0) || self.images.contains_key(id)
        };
        for id in self.removed.keys().filter(gone).copied().collect::<Vec<_>>() {
            if forget(&files.removed(&id)) {
                self.removed.remove(&id);
            }
        }
    }
}

/// It is tried again with the next sweep.
fn forget(note: &std::path::Path) -> bool {
    let done = remove_file(note, Durability::Volatile).or_else(|_| remove_tree(note));
    if let Err(error) = &done {
        tracing::warn!(path = %note.display(), %error, "cannot remove a note of the image store");
    }
    done.is_ok()
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
