//! Where things are, and the few ways files are written.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Serialize, de::DeserializeOwned};
use skep_sys::files::{Durability, own_dir, replace, set_aside};

use skep_types::stored::{self, Unreadable};

use crate::{
    digest::{ChainId, Digest, ImageId},
    error::{Error, Result},
};

/// Newest format of the store's state files.
pub(super) const FORMAT: u32 = 1;

/// Lengths of a layer's names in `l/`, in the order they are tried.
pub(super) const LINK_LENGTHS: [usize; 4] = [10, 16, 32, 64];

/// Where a layer's name in `l/` leads.
pub(super) fn link_target(chain: &ChainId) -> PathBuf {
    PathBuf::from("../layers").join(chain.hex()).join("diff")
}

/// The folders of a store.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    next: AtomicU64,
}

impl Files {
    /// Makes missing folders. Only root may look in: layers hold setuid programs.
    pub(super) fn open(root: PathBuf) -> Result<Self> {
        let mut files = Self { root, next: AtomicU64::new(0) };
        for folder in ["", "blobs", "blobs/sha256", "layers", "l", "images", "rw", "tmp"] {
            let path = files.root.join(folder);
            own_dir(&path, 0o700).map_err(Error::store("make folder", &path))?;
        }
        let empty = files.empty();
        own_dir(&empty, 0o755).map_err(Error::store("make folder", &empty))?;
        // Past what cannot be removed there.
        let taken =
            list(&files.root.join("tmp"))?.iter().filter_map(|n| n.parse::<u64>().ok()).max();
        files.next = AtomicU64::new(taken.map_or(0, |last| last.wrapping_add(1)));
        Ok(files)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Lower directory of an image without layers.
    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer(&self, chain: &ChainId) -> PathBuf {
        self.root.join("layers").join(chain.hex())
    }

    pub(crate) fn link(&self, short: &str) -> PathBuf {
        self.root.join("l").join(short)
    }

    /// Removes the names in `l/` of a layer whose own one is not known.
    pub(super) fn remove_links(&self, chain: &ChainId) {
        let target = link_target(chain);
        for length in LINK_LENGTHS {
            let path = self.link(&chain.hex()[..length]);
            if fs::read_link(&path).is_ok_and(|to| to == target)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove a layer's link");
            }
        }
    }

    /// Makes a layer's name in `l/` anew if something else has its place: what is mounted by it must be the
    /// layer and nothing else.
    pub(super) fn ensure_link(&self, chain: &ChainId, short: &str) -> Result<()> {
        let (path, target) = (self.link(short), link_target(chain));
        if fs::read_link(&path).is_ok_and(|to| to == target) {
            return Ok(());
        }
        if LINK_LENGTHS.iter().all(|length| chain.hex()[..*length] != *short) {
            let reason = format!("{short:?} is no name that this layer can have");
            return Err(Error::Damaged { path: self.layer(chain), reason });
        }
        if is_there(&path) {
            set_aside(&path).map_err(Error::store("set aside", &path))?;
        }
        symlink(target, &path).map_err(Error::store("link", &path))
    }

    pub(crate) fn image(&self, id: &ImageId) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.hex()))
    }

    /// What was noted about an image that was removed, as long as its content is not all gone.
    pub(super) fn removed(&self, id: &ImageId) -> PathBuf {
        self.root.join("images").join(format!("{}.removed", id.hex()))
    }

    /// Stands beside content that no image needs yet.
    pub(super) fn pending(&self, digest: &Digest) -> PathBuf {
        self.root.join("pending").join(digest.hex())
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names.json")
    }

    pub(crate) fn rw(&self, container: &str) -> PathBuf {
        self.root.join("rw").join(container)
    }

    /// A link that names the layer which a read-write layer lies on.
    pub(crate) fn parent(&self, container: &str) -> PathBuf {
        self.rw(container).join("parent")
    }

    /// A path in `tmp/` that nobody else uses.
    pub(crate) fn aside(&self) -> PathBuf {
        self.root.join("tmp").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Replaces a state file; it is on disk then.
    pub(super) fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<()> {
        stored::encode(FORMAT, value)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(path, &bytes, 0o600, Durability::Lasting))
            .map_err(Error::store("write", path))
    }

    /// Everything written so far is on disk when this returns: one call for a whole image instead
    /// of one for each file.
    pub(super) fn sync_all(&self) -> Result<()> {
        let folder = File::open(&self.root).map_err(Error::store("open", &self.root))?;
        rustix::fs::syncfs(&folder).map_err(|e| Error::store("sync", &self.root)(e.into()))
    }
}

/// Reads a document of an image.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = skep_sys::files::read_existing(path).map_err(Error::store("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::Damaged { path: path.into(), reason: format!("it is malformed: {e}") })
}

/// Reads a state file.
pub(super) fn read_state<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = skep_sys::files::read_existing(path).map_err(Error::store("read", path))?;
    stored::decode(FORMAT, &bytes).map_err(|e| unreadable(path, e))
}

pub(super) fn unreadable(path: &Path, error: Unreadable) -> Error {
    Error::Damaged { path: path.into(), reason: skep_types::report(&error) }
}

/// Whether anything has the name, a dangling link included.
pub(super) fn is_there(path: &Path) -> bool {
    !fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Names in a folder.
pub(super) fn list(folder: &Path) -> Result<Vec<String>> {
    let failed = || Error::store("list", folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        if let Ok(name) = entry.map_err(failed())?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
