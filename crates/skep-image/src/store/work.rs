//! One running operation: its scratch folder, and the content it needs to stay.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use skep_sys::files::{
    Durability, create_new, make_dir, remove_tree, rename, replace, set_aside_odd,
};

use super::{Inner, lock};
use crate::{
    digest::{ChainId, Digest},
    error::{Error, Result},
};

/// Dropping it, after success or failure, removes the scratch folder and whatever content nothing
/// else needs.
pub(crate) struct Work {
    store: Arc<Inner>,
    folder: PathBuf,
    next: AtomicU64,
    pins: Mutex<Vec<Digest>>,
}

impl Work {
    pub(crate) fn start(store: &Arc<Inner>) -> Result<Self> {
        let folder = store.files.aside();
        make_dir(&folder, 0o700).map_err(Error::store("make folder", &folder))?;
        Ok(Self {
            store: Arc::clone(store),
            folder,
            next: AtomicU64::new(0),
            pins: Mutex::default(),
        })
    }

    pub(crate) fn store(&self) -> &Arc<Inner> {
        &self.store
    }

    /// An unused path on the disk of the store.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// An empty scratch file.
    pub(crate) fn scratch_file(&self) -> Result<(File, PathBuf)> {
        let path = self.scratch();
        let file = create_new(&path, 0o600).map_err(Error::store("create", &path))?;
        Ok((file, path))
    }

    /// Keeps a layer if it is there.
    pub(crate) fn pin_layer(&self, chain: ChainId) -> bool {
        let mut state = self.store.state();
        let known = state.layers.contains_key(&chain);
        if known {
            state.pin(chain.0);
            lock(&self.pins).push(chain.0);
        }
        known
    }

    /// Keeps a blob if it is there; its size.
    pub(crate) fn pin_blob(&self, digest: Digest) -> Option<u64> {
        let mut state = self.store.state();
        let size = state.blobs.get(&digest).copied()?;
        state.pin(digest);
        lock(&self.pins).push(digest);
        Some(size)
    }

    /// Moves a scratch file whose digest the caller has verified into the content store and keeps it.
    pub(crate) fn publish(&self, scratch: &Path, digest: Digest, size: u64) -> Result<()> {
        let target = self.store.files.blob(&digest);
        let mut state = self.store.state();
        if !state.blobs.contains_key(&digest) {
            state.await_image(&self.store.files, digest)?;
            set_aside_odd(&target).map_err(Error::store("set aside", &target))?;
            rename(scratch, &target, Durability::Volatile)
                .map_err(Error::store("move into place", &target))?;
            state.blobs.insert(digest, size);
        }
        state.pin(digest);
        lock(&self.pins).push(digest);
        Ok(())
    }

    /// Stores bytes at hand.
    pub(crate) fn publish_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.pin_blob(digest).is_none() {
            let path = self.scratch();
            replace(&path, bytes, 0o600, Durability::Volatile)
                .map_err(Error::store("write", &path))?;
            self.publish(&path, digest, bytes.len() as u64)?;
        }
        Ok(digest)
    }

    pub(super) fn keep_new_layer(&self, state: &mut super::state::State, chain: ChainId) {
        state.pin(chain.0);
        lock(&self.pins).push(chain.0);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let swept = {
            let mut state = self.store.state();
            for pin in lock(&self.pins).drain(..) {
                state.unpin(&pin);
            }
            state.sweep(&self.store.files)
        };
        let folder = std::mem::take(&mut self.folder);
        let remove = move || {
            swept.remove();
            if let Err(error) = remove_tree(&folder) {
                tracing::warn!(path = %folder.display(), %error, "cannot remove a scratch folder");
            }
        };
        // Usually nearly nothing; after a failed pull it can be gigabytes, and this may be a
        // runtime's thread.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
