//! Making layers out of blobs.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::symlink,
    path::PathBuf,
    sync::Arc,
};

use skep_sys::files::{Durability, make_dir, remove_tree, rename, replace};
use skep_types::stored;

use super::{
    Inner,
    files::{FORMAT, LINK_LENGTHS, link_target},
    state::Layer,
    work::Work,
};
use crate::{
    compress::{Bounded, decoder},
    digest::{ChainId, DiffId, Hashing, ImageId},
    error::{ArchiveError, Error, Result},
    manifest::Descriptor,
    unpack::{UnpackError, UnpackOptions, unpack_reader},
};

/// A blob that is to become a layer.
pub(crate) struct NewLayer<'a> {
    pub(crate) parent: Option<ChainId>,
    /// What the image says the uncompressed tar is; `None` to find out.
    pub(crate) diff_id: Option<DiffId>,
    /// In the content store, pinned.
    pub(crate) blob: Descriptor,
    /// Called with the compressed bytes read so far.
    pub(crate) progress: &'a (dyn Fn(u64) + Sync),
}

impl Inner {
    /// Unpacks a blob as a layer on top of `parent`, unless it is there already. Blocking.
    ///
    /// # Errors
    /// Nothing is left behind.
    pub(crate) fn add_layer(&self, work: &Work, new: NewLayer<'_>) -> Result<(ChainId, DiffId)> {
        if let Some(diff_id) = new.diff_id {
            let chain = ChainId::of(new.parent.as_ref(), &diff_id);
            if work.pin_layer(chain) {
                return Ok((chain, diff_id));
            }
        }
        let folder = work.scratch();
        let diff = folder.join("diff");
        make_dir(&folder, 0o700).map_err(Error::store("make folder", &folder))?;
        make_dir(&diff, 0o755).map_err(Error::store("make folder", &diff))?;
        let result = self.unpack_blob(&new, &diff).and_then(|(diff_id, size)| {
            let chain = ChainId::of(new.parent.as_ref(), &diff_id);
            self.adopt(work, &folder, chain, diff_id, size, &new)?;
            Ok((chain, diff_id))
        });
        if result.is_err() {
            // The scratch folder goes with the operation, but it may be large and run on.
            if let Err(error) = remove_tree(&folder) {
                tracing::warn!(path = %folder.display(), %error, "cannot remove a half-made layer");
            }
        }
        result
    }

    fn unpack_blob(&self, new: &NewLayer<'_>, diff: &std::path::Path) -> Result<(DiffId, u64)> {
        let path = self.files.blob(&new.blob.digest);
        let file = File::open(&path).map_err(Error::store("open", &path))?;
        let name = new.diff_id.map_or_else(|| new.blob.digest.to_string(), |id| id.to_string());
        let failed = |source| Error::Unpack { layer: name.clone(), source };
        let limits = self.settings.limits;
        let (_, plain) = decoder(Counting { inner: file, read: 0, report: new.progress }).map_err(
            |e| match e {
                ArchiveError::Read(e) => failed(UnpackError::Read(e)),
                ArchiveError::Compression(name) => failed(UnpackError::Compression(name)),
                other => other.into(),
            },
        )?;
        let stream = Hashing::new(Bounded::new(plain, limits.layer_bytes));
        let options = UnpackOptions { whiteouts: true, limits, ..UnpackOptions::default() };
        let (unpacked, mut rest) = unpack_reader(stream, diff, &options).map_err(failed)?;
        // The digest covers what stands behind the end of the archive, too.
        io::copy(&mut rest, &mut io::sink()).map_err(|e| failed(UnpackError::Read(e)))?;
        let (_, actual, _) = rest.finish();
        match new.diff_id {
            Some(expected) if expected.0 != actual => Err(failed(UnpackError::Digest {
                expected: expected.to_string(),
                actual: actual.to_string(),
            })),
            _ => Ok((DiffId(actual), unpacked.bytes)),
        }
    }

    /// Moves an unpacked layer into place, or drops it if another operation was faster.
    fn adopt(
        &self,
        work: &Work,
        folder: &std::path::Path,
        chain: ChainId,
        diff_id: DiffId,
        size: u64,
        new: &NewLayer<'_>,
    ) -> Result<()> {
        let mut state = self.state();
        if !state.layers.contains_key(&chain) {
            let target = self.files.layer(&chain);
            let link = self.make_link(&chain)?;
            let layer = Layer { diff_id, parent: new.parent, size, link, blob: new.blob.clone() };
            let meta = folder.join("layer.json");
            let json = stored::encode(FORMAT, &layer).map_err(io::Error::from);
            // Synced with the rest of the image.
            json.and_then(|bytes| replace(&meta, &bytes, 0o600, Durability::Volatile))
                .map_err(Error::store("write", &meta))?;
            if state.damaged.contains_key(&chain) {
                // Its files may be in use. They are what was unpacked when they were made: what is damaged
                // is what was noted about them.
                let noted = target.join("layer.json");
                rename(&meta, &noted, Durability::Volatile)
                    .map_err(Error::store("replace", &noted))?;
                state.damaged.remove(&chain);
            } else {
                state.await_image(&self.files, chain.0)?;
                rename(folder, &target, Durability::Volatile)
                    .map_err(Error::store("move into place", &target))?;
            }
            state.layers.insert(chain, Arc::new(layer));
        }
        work.keep_new_layer(&mut state, chain);
        Ok(())
    }

    /// A short name for a layer. Prefixes can be made to collide, so a taken one gets longer.
    fn make_link(&self, chain: &ChainId) -> Result<String> {
        let hex = chain.hex();
        let target = link_target(chain);
        for length in LINK_LENGTHS {
            let path = self.files.link(&hex[..length]);
            match symlink(&target, &path) {
                Ok(()) => return Ok(hex[..length].to_owned()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    if fs::read_link(&path).is_ok_and(|to| to == target) {
                        return Ok(hex[..length].to_owned());
                    }
                }
                Err(e) => return Err(Error::store("link", path)(e)),
            }
        }
        Err(Error::Damaged {
            path: self.files.link(&hex),
            reason: "it points to another layer".into(),
        })
    }

    /// Overlay lower directories of an image, top first.
    pub(crate) fn lowerdirs(&self, image: &ImageId) -> Result<Vec<PathBuf>> {
        let state = self.state();
        let record =
            state.images.get(image).ok_or_else(|| Error::NoSuchImage(image.to_string()))?;
        state.check_whole(record)?;
        Ok(self.lowerdirs_of(&state, record.chain.last().copied()))
    }

    pub(crate) fn lowerdirs_of(
        &self,
        state: &super::state::State,
        top: Option<ChainId>,
    ) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> =
            state.ancestry(top).map(|(id, _)| self.files.layer(&id).join("diff")).collect();
        if dirs.is_empty() {
            dirs.push(self.files.empty());
        }
        dirs
    }
}

/// Tells how many bytes passed.
struct Counting<'a, R> {
    inner: R,
    read: u64,
    report: &'a (dyn Fn(u64) + Sync),
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read += n as u64;
        (self.report)(self.read);
        Ok(n)
    }
}
