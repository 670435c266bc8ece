//! What containers write, and the overlay they see.
//!
//! A read-write layer is a folder with an upper directory and a symlink that names the image's top
//! layer. The symlink is the record: making it is one step, needs no sync, and keeps the layers
//! below when the image is removed.

mod changes;
mod commit;
pub(crate) mod error;
mod mount;

use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard, PoisonError, Weak},
};

use crate::root::Root;
pub use commit::CommitOptions;
pub use error::RwError;
pub use mount::MountOptions;

use rustix::fs::{Mode, OFlags};
use skep_sys::files::{Durability, make_dir, remove_tree, rename, tree_size};

use crate::{
    digest::{ChainId, ImageId},
    error::{Error, Result},
    store::{Images, Inner, State},
    stream::ByteStream,
    tar::pack::{PackOptions, pack, too_deep},
};

/// A container's read-write layer and what it lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RwLayer {
    /// Container.
    pub container: String,
    /// Image layers, top first; never empty.
    pub lowerdirs: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// Overlayfs's own folder.
    pub work: PathBuf,
    /// Where earlier versions mounted the root file system.
    pub merged: PathBuf,
}

impl Images {
    /// Makes a container's read-write layer on top of an image. Nothing is copied, mounted or
    /// synced; a few system calls.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::DamagedImage`], [`RwError::Exists`], [`RwError::Name`]. Nothing is
    /// left behind.
    pub fn prepare_rw(&self, container: &str, image: &ImageId) -> Result<RwLayer> {
        let inner = &self.inner;
        check_name(container)?;
        let top = {
            let mut state = inner.looked_again();
            let record =
                state.images.get(image).ok_or_else(|| Error::NoSuchImage(image.to_string()))?;
            state.check_whole(record)?;
            let top = record.chain.last().copied();
            if state.lost_rw.contains(container) || state.rw.contains_key(container) {
                return Err(RwError::Exists(container.into()).into());
            }
            // From here on the layers stay, whatever happens to the image.
            state.rw.insert(container.into(), top);
            top
        };
        if let Err(error) = inner.make_rw(container, top) {
            inner.state().rw.remove(container);
            return Err(error.into());
        }
        self.rw(container)
    }

    /// An existing read-write layer.
    ///
    /// # Errors
    /// [`RwError::NotFound`], [`RwError::Lost`].
    pub fn rw(&self, container: &str) -> Result<RwLayer> {
        let inner = &self.inner;
        let state = inner.looked_again();
        let top = inner.top_of(&state, container)?;
        let folder = inner.files.rw(container);
        Ok(RwLayer {
            container: container.into(),
            lowerdirs: inner.lowerdirs_of(&state, top),
            upper: folder.join("upper"),
            work: folder.join("work"),
            merged: folder.join("merged"),
        })
    }

    /// Containers that have a read-write layer, sorted.
    pub fn rw_layers(&self) -> Vec<String> {
        let state = self.inner.state();
        let mut all: Vec<String> = state.rw.keys().chain(&state.lost_rw).cloned().collect();
        all.sort();
        all
    }

    /// Whether a container's overlay can be mounted, for all that is known of it: to be asked before it is given up
    /// where it is mounted.
    ///
    /// # Errors
    /// [`RwError::NotFound`], [`RwError::Lost`], [`RwError::DamagedLayer`].
    pub fn check_rw(&self, container: &str) -> Result<()> {
        let state = self.inner.looked_again();
        match state.gap(self.inner.top_of(&state, container)?) {
            // On what is left of it other files would appear than the container knows.
            Some(layer) => Err(RwError::DamagedLayer(layer.to_string()).into()),
            None => Ok(()),
        }
    }

    /// Mounts a container's overlay, to look into it; those who look at one time share one mount.
    ///
    /// # Errors
    /// As [`Images::check_rw`]; [`RwError::Io`]. Nothing is mounted then.
    pub fn mount(&self, container: &str, options: MountOptions) -> Result<Arc<Root>> {
        self.mounted(container, &options, false)
    }

    /// The same to attach it where the container runs. Who looks into it shares it, until it is gone
    /// with the container and its last holder.
    ///
    /// # Errors
    /// As [`Images::mount`].
    pub fn mount_to_run(&self, container: &str, options: MountOptions) -> Result<Arc<Root>> {
        self.mounted(container, &options, true)
    }

    fn mounted(&self, container: &str, options: &MountOptions, run: bool) -> Result<Arc<Root>> {
        let rw = self.rw(container)?;
        if let Some(root) = in_use(&mut self.inner.roots(), container, run) {
            return Ok(root);
        }
        self.check_rw(container)?;
        let links = {
            let state = self.inner.state();
            let top = state.rw.get(container).copied().flatten();
            state.ancestry(top).map(|(_, layer)| layer.link.clone()).collect::<Vec<_>>()
        };
        let made = Arc::new(mount::mount(self.inner.files.root(), &rw, &links, options)?);
        let mut roots = self.inner.roots();
        // Mounted without the lock. If somebody else did so meanwhile, theirs is used.
        if let Some(root) = in_use(&mut roots, container, run) {
            return Ok(root);
        }
        if run {
            made.take();
        }
        roots.insert(container.to_owned(), Arc::downgrade(&made));
        Ok(made)
    }

    /// Unmounts what an earlier version mounted of a container on the host itself; nothing happens
    /// if there is nothing. What still uses it keeps it until it ends.
    ///
    /// # Errors
    /// [`RwError::Io`].
    pub fn unmount(&self, container: &str) -> Result<()> {
        mount::unmount(&self.inner.files.rw(container).join("merged"))?;
        Ok(())
    }

    /// Unmounts and removes a container's read-write layer, and the layers that only it kept;
    /// nothing happens if there is none. The files are freed on a thread of the runtime if there is
    /// one.
    ///
    /// # Errors
    /// [`RwError::Io`]; the layer is then still there.
    pub fn remove_rw(&self, container: &str) -> Result<()> {
        let inner = &self.inner;
        {
            let state = inner.state();
            if !state.rw.contains_key(container) && !state.lost_rw.contains(container) {
                return Ok(());
            }
        }
        let folder = inner.files.rw(container);
        mount::unmount(&folder.join("merged"))?;
        let aside = inner.files.aside();
        match rename(&folder, &aside, Durability::Volatile) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(RwError::io("remove", &folder))?,
        }
        let swept = {
            let mut state = inner.state();
            state.rw.remove(container);
            state.lost_rw.remove(container);
            state.sweep(&inner.files)
        };
        let remove = move || {
            swept.remove();
            if let Err(error) = remove_tree(&aside) {
                tracing::warn!(path = %aside.display(), %error, "cannot remove a read-write layer");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
        Ok(())
    }

    /// Bytes of the files a container wrote; each counted once, whatever names it has.
    ///
    /// # Errors
    /// [`RwError::NotFound`], [`RwError::Io`].
    pub async fn rw_size(&self, container: &str) -> Result<u64> {
        let upper = self.rw(container)?.upper;
        self.blocking(move |_| {
            open_folder(&upper)
                .and_then(tree_size)
                .map_err(|e| RwError::io("measure", &upper)(e).into())
        })
        .await
    }

    /// `docker diff`: what a container changed since its image, sorted by path.
    ///
    /// # Errors
    /// [`RwError::NotFound`], [`RwError::Io`].
    pub async fn changes(&self, container: &str) -> Result<Vec<crate::image::Change>> {
        let rw = self.rw(container)?;
        self.blocking(move |_| {
            changes::between(&rw.upper, &rw.lowerdirs)
                .map_err(|e| RwError::io("compare", &rw.upper)(e).into())
        })
        .await
    }

    /// Refuses a container whose files cannot be packed, before anything of them is sent. What its image brought
    /// came out of an archive, so that only what the container wrote can be too deep.
    ///
    /// # Errors
    /// [`RwError::TooDeep`], [`RwError::Io`]. What is not known is not refused.
    pub async fn check_packable(&self, container: &str) -> Result<()> {
        let Ok(RwLayer { upper, .. }) = self.rw(container) else { return Ok(()) };
        self.blocking(move |_| Ok(check_depth(&upper)?)).await
    }

    /// What a container changed, as an uncompressed layer with whiteouts. Needs a runtime.
    ///
    /// # Errors
    /// [`RwError::NotFound`]; later failures are items of the stream.
    pub fn diff(&self, container: &str) -> Result<ByteStream> {
        let upper = self.rw(container)?.upper;
        let options = PackOptions { whiteouts: true, ..PackOptions::default() };
        Ok(ByteStream::spawn(move |writer| pack(&upper, writer, &options)))
    }
}

impl Inner {
    fn roots(&self) -> MutexGuard<'_, HashMap<String, Weak<Root>>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layer that a read-write layer lies on.
    fn top_of(&self, state: &State, container: &str) -> Result<Option<ChainId>, RwError> {
        match state.rw.get(container) {
            Some(top) => Ok(*top),
            None if state.lost_rw.contains(container) => {
                Err(RwError::Lost(self.files.parent(container)))
            }
            None => Err(RwError::NotFound(container.into())),
        }
    }

    /// Made aside and renamed: it is there as a whole or not at all.
    fn make_rw(&self, container: &str, top: Option<ChainId>) -> Result<(), RwError> {
        let (aside, folder) = (self.files.aside(), self.files.rw(container));
        let make =
            |path: &Path, mode| make_dir(path, mode).map_err(RwError::io("make folder", path));
        make(&aside, 0o700)?;
        let fill = || {
            // The mode of the upper directory is that of the container's root.
            make(&aside.join("upper"), 0o755)?;
            make(&aside.join("work"), 0o700)?;
            make(&aside.join("merged"), 0o700)?;
            let parent = aside.join("parent");
            let target = top.map_or_else(|| "none".to_owned(), |top| top.to_string());
            symlink(target, &parent).map_err(RwError::io("link", &parent))?;
            rename(&aside, &folder, Durability::Volatile)
                .map_err(RwError::io("make folder", &folder))
        };
        fill().inspect_err(|_| {
            if let Err(error) = remove_tree(&aside) {
                tracing::warn!(path = %aside.display(), %error, "cannot remove a half-made read-write layer");
            }
        })
    }
}

/// The mount of a container that somebody holds now; to run it, one that nobody has taken.
fn in_use(
    roots: &mut HashMap<String, Weak<Root>>,
    container: &str,
    run: bool,
) -> Option<Arc<Root>> {
    roots.retain(|_, root| root.strong_count() > 0);
    roots.get(container).and_then(Weak::upgrade).filter(|root| !run || root.take())
}

fn check_depth(upper: &Path) -> Result<(), RwError> {
    match open_folder(upper).and_then(too_deep).map_err(RwError::io("look through", upper))? {
        Some(path) => Err(RwError::TooDeep(path)),
        None => Ok(()),
    }
}

/// A folder of ours, to walk it.
fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Container ids and names, and nothing that a path could be made of.
fn check_name(container: &str) -> Result<(), RwError> {
    let ok = container.len() <= 128
        && container.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && container.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if ok { Ok(()) } else { Err(RwError::Name(container.into())) }
}
