//! Making images, and giving them names.

use std::{collections::BTreeMap, sync::Arc};

use skep_sys::files::{Durability, rename, set_aside};
use time::OffsetDateTime;

use super::{
    Images, Inner, Work,
    files::is_there,
    image::read_image,
    state::{NamesFile, Record, RecordFile},
};
use crate::{
    config::ImageConfig,
    digest::{ChainId, Digest, ImageId},
    error::{Error, Result},
    manifest::{Descriptor, Document, Manifest},
    reference::{Reference, ReferenceError},
};

/// An image whose layers are all in the store.
#[derive(Debug, Default)]
pub(crate) struct NewImage {
    /// Configuration, byte for byte.
    pub(crate) config: Vec<u8>,
    /// The manifest it came with, and its media type.
    pub(crate) manifest: Option<(String, Vec<u8>)>,
    /// Names it gets; each has a tag or a digest.
    pub(crate) names: Vec<Reference>,
    /// The image it was committed from.
    pub(crate) parent: Option<ImageId>,
}

/// What registering did.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) id: ImageId,
    /// Names that pointed elsewhere, with that image.
    pub(crate) replaced: Vec<(Reference, ImageId)>,
    /// The image or one of its names is new.
    pub(crate) changed: bool,
}

impl Inner {
    /// Makes an image. Its layers must be in the store and pinned by `work`. Blocking.
    ///
    /// # Errors
    /// The image does not exist then, and no name has moved.
    pub(crate) fn register(&self, work: &Work, new: NewImage) -> Result<Registered> {
        let damaged = self.repair_config(&new.config)?;
        let id = ImageId(work.publish_bytes(&new.config)?);
        let manifest = match &new.manifest {
            Some((media_type, bytes)) if self.describes(&id, &new.config, bytes)? => Some(
                Descriptor::new(media_type.clone(), work.publish_bytes(bytes)?, bytes.len() as u64),
            ),
            _ => None,
        };
        let _commit = self.committing();
        let known = self.state().images.get(&id).map(|record| record.file.clone());
        let mut file = known.clone().unwrap_or_default();
        if file.manifest.is_none() {
            file.manifest = manifest;
        }
        if known.is_none() {
            file.parent = new.parent;
        }
        let moved: Vec<Reference> = {
            let state = self.state();
            new.names.iter().filter(|name| state.names.get(name) != Some(&id)).cloned().collect()
        };
        if !moved.is_empty() {
            file.last_tagged = Some(OffsetDateTime::now_utc());
        }
        if damaged || known.as_ref() != Some(&file) {
            let record = read_image(&self.files, &self.state(), id, file.clone())?;
            if damaged || known.is_none() {
                // Layers and blobs before the record that makes them count.
                self.files.sync_all()?;
            }
            self.write_note(&id, &file)?;
            self.state().images.insert(id, Arc::new(record));
        }
        let replaced = self.point(&moved, id)?;
        Ok(Registered { id, replaced, changed: known.is_none() || !moved.is_empty() })
    }

    /// Replaces the configuration of an image that is here and could not be read. Whether it was so.
    fn repair_config(&self, config: &[u8]) -> Result<bool> {
        let id = ImageId(Digest::of(config));
        if self.state().images.get(&id).is_none_or(|record| record.damage.is_none()) {
            return Ok(false);
        }
        let path = self.files.blob(&id.0);
        skep_sys::files::replace(&path, config, 0o600, skep_sys::files::Durability::Lasting)
            .map_err(Error::store("write", &path))?;
        self.state().blobs.insert(id.0, config.len() as u64);
        Ok(true)
    }

    /// The manifest is about this image, with the layers as they are stored here.
    fn describes(&self, id: &ImageId, config: &[u8], manifest: &[u8]) -> Result<bool> {
        let Ok(Document::Manifest(manifest)) = Document::parse(manifest, None, usize::MAX) else {
            return Ok(false);
        };
        let config: ImageConfig = serde_json::from_slice(config).map_err(|e| Error::Damaged {
            path: self.files.blob(&id.0),
            reason: format!("the image configuration is malformed: {e}"),
        })?;
        let state = self.state();
        let chain = ChainId::stack(&config.rootfs.diff_ids);
        let stored =
            chain.iter().map(|chain| state.layers.get(chain).map(|layer| layer.blob.digest));
        Ok(manifest.config.digest == id.0
            && manifest.layers.len() == chain.len()
            && stored.eq(manifest.layers.iter().map(|layer| Some(layer.digest))))
    }

    /// The manifest to save or push an image with: the one it came with, or a new one. With its
    /// media type and parsed.
    pub(crate) fn manifest_of(&self, record: &Record) -> Result<(String, Vec<u8>, Manifest)> {
        if let Some(descriptor) = record.manifest() {
            let path = self.files.blob(&descriptor.digest);
            let bytes =
                skep_sys::files::read_existing(&path).map_err(Error::store("read", &path))?;
            match Document::parse(&bytes, None, usize::MAX) {
                Ok(Document::Manifest(manifest)) => {
                    return Ok((descriptor.media_type.clone(), bytes, manifest));
                }
                _ => return Err(Error::Damaged { path, reason: "it is no manifest".into() }),
            }
        }
        let (config_size, layers) = {
            let state = self.state();
            let layers: Option<Vec<Descriptor>> = record
                .chain
                .iter()
                .map(|id| state.layers.get(id).map(|layer| layer.blob.clone()))
                .collect();
            (state.blobs.get(&record.id.0).copied().unwrap_or_default(), layers)
        };
        // Gone while we looked.
        let layers = layers.ok_or_else(|| Error::NoSuchImage(record.id.to_string()))?;
        let manifest = Manifest::new(Descriptor::new("", record.id.0, config_size), layers);
        let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::Damaged {
            path: self.files.image(&record.id),
            reason: format!("no manifest can be made of it: {e}"),
        })?;
        Ok((manifest.kind().to_owned(), bytes, manifest))
    }

    /// Lets names point to an image, on disk first. Returns those that pointed to another one. The
    /// caller holds `commit`.
    fn point(&self, names: &[Reference], id: ImageId) -> Result<Vec<(Reference, ImageId)>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut all = self.state().names.clone();
        let mut replaced = Vec::new();
        for name in names {
            match all.insert(name.clone(), id) {
                Some(old) if old != id => replaced.push((name.clone(), old)),
                _ => {}
            }
        }
        self.write_names(all)?;
        Ok(replaced)
    }

    /// Replaces all names, on disk first. The caller holds `commit`.
    pub(super) fn write_names(&self, names: BTreeMap<Reference, ImageId>) -> Result<()> {
        let names_file =
            NamesFile { names: names.iter().map(|(name, id)| (name.to_string(), *id)).collect() };
        let path = self.files.names();
        if self.state().names_in_the_way && is_there(&path) {
            let aside = set_aside(&path).map_err(Error::store("set aside", &path))?;
            let mut state = self.state();
            (state.lost_names, state.names_in_the_way) = (Some(aside), false);
        }
        self.files.write_json(&path, &names_file)?;
        self.state().names = names;
        Ok(())
    }

    /// Gives an existing image one more name. Blocking.
    pub(crate) fn name(&self, record: &Record, name: &Reference) -> Result<()> {
        let _commit = self.committing();
        let Some(current) = self.state().images.get(&record.id).cloned() else {
            return Err(Error::NoSuchImage(record.id.to_string()));
        };
        if self.state().names.get(name) == Some(&record.id) {
            return Ok(());
        }
        let file =
            RecordFile { last_tagged: Some(OffsetDateTime::now_utc()), ..current.file.clone() };
        self.write_note(&record.id, &file)?;
        // Last, so that a failure leaves the name as it was.
        self.point(std::slice::from_ref(name), record.id)?;
        let record = Record {
            id: record.id,
            config: Arc::clone(&current.config),
            chain: current.chain.clone(),
            file,
            damage: current.damage.clone(),
        };
        self.state().images.insert(record.id, Arc::new(record));
        Ok(())
    }

    /// Replaces what is noted about an image, on disk only. A note that cannot be read is kept beside it; if
    /// it comes no further than that, the image is known by its content. The caller holds `commit`.
    fn write_note(&self, id: &ImageId, file: &RecordFile) -> Result<()> {
        let path = self.files.image(id);
        if self.state().unread_notes.contains_key(id) {
            set_aside(&path).map_err(Error::store("set aside", &path))?;
        }
        self.files.write_json(&path, file)?;
        self.state().unread_notes.remove(id);
        Ok(())
    }

    /// Removes an image's record, on disk first, and gives up its content. The caller holds `commit` and has
    /// taken its names off.
    pub(super) fn unregister(&self, id: &ImageId) -> Result<()> {
        let (note, removed) = (self.files.image(id), self.files.removed(id));
        self.reserve.for_removal(is_full, || {
            match rename(&note, &removed, Durability::Lasting) {
                // An image of which nothing was noted.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.files.write_json(&removed, &RecordFile::default())
                }
                done => done.map_err(Error::store("remove", &note)),
            }
        })?;
        let mut state = self.state();
        if let Some(record) = state.images.remove(id) {
            let content = state.content_of(&self.files, &record);
            state.removed.insert(*id, content);
        }
        state.unread_notes.remove(id);
        Ok(())
    }
}

/// There was no room on the disk.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(error, Error::Store { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

impl Images {
    /// `docker tag`: gives an image one more name, taking it from the image that had it. Returns
    /// the name's familiar form, with its tag.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] for the source, [`Error::Reference`] for a malformed target or one
    /// with a digest.
    pub async fn tag(&self, source: &str, target: &str) -> Result<String> {
        let record = self.inner.find(source)?;
        let target = Reference::parse(target)?;
        if target.digest().is_some() {
            return Err(ReferenceError::TagWithDigest.into());
        }
        let target = target.tagged();
        let familiar = target.familiar();
        self.blocking(move |inner| inner.name(&record, &target)).await?;
        Ok(familiar)
    }
}
