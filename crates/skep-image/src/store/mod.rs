//! The store's public face.
use std::{path::PathBuf, sync::Arc};
use tokio::io::AsyncRead;
use crate::*;

/// All images of one host. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    pub(crate) inner: Arc<Inner>,
}
pub(crate) struct Inner {}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async)]
impl Images {
    /// Opens (or makes) the store with default limits.
    pub fn open(root: PathBuf, cfg: RegistryConfig) -> Result<Self> { unimplemented!() }
    /// Opens the store.
    pub fn open_with(root: PathBuf, settings: Settings) -> Result<Self> { unimplemented!() }

    // ---- queries: memory only, no I/O, callable from async code
    /// Images, newest first.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<Image>> { unimplemented!() }
    /// By name, id or unique id prefix.
    pub fn get(&self, name: &str) -> Result<Image> { unimplemented!() }
    /// Number of images.
    pub fn count(&self) -> usize { unimplemented!() }
    /// Newest first.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryEntry>> { unimplemented!() }
    /// What the store takes.
    pub fn disk_usage(&self) -> DiskUsage { unimplemented!() }
    /// Overlay lower directories of an image, top first.
    pub fn lowerdirs(&self, image: &ImageId) -> Result<Vec<PathBuf>> { unimplemented!() }

    // ---- changes
    /// `docker tag`. Returns the new name's familiar form.
    pub async fn tag(&self, source: &str, target: &str) -> Result<String> { unimplemented!() }
    /// `docker rmi`.
    pub async fn remove<F>(&self, name: &str, options: RemoveOptions, users: F) -> Result<Vec<Removed>>
    where F: Fn(&ImageId) -> Vec<ImageUser> + Send + 'static { unimplemented!() }
    /// `docker image prune`.
    pub async fn prune<F>(&self, filter: PruneFilter, users: F) -> Result<PruneReport>
    where F: Fn(&ImageId) -> Vec<ImageUser> + Send + 'static { unimplemented!() }

    // ---- archives
    /// `docker load`: docker-save or OCI layout, plain, gzip or zstd.
    pub async fn load<R>(&self, archive: R, progress: Progress) -> Result<Vec<LoadedImage>>
    where R: AsyncRead + Send + Unpin + 'static { unimplemented!() }
    /// `docker save`: names are resolved before this returns; errors later are items of the stream.
    pub fn save(&self, names: &[String]) -> Result<ByteStream> { unimplemented!() }
    /// `docker import`.
    pub async fn import<R>(&self, archive: R, options: ImportOptions, progress: Progress) -> Result<ImageId>
    where R: AsyncRead + Send + Unpin + 'static { unimplemented!() }

    // ---- registries
    /// `docker pull` of one tag or digest.
    pub async fn pull(&self, name: &Reference, platform: Option<&Platform>, who: &Credentials, progress: Progress) -> Result<Pulled> { unimplemented!() }
    /// `docker push` of one tag.
    pub async fn push(&self, name: &Reference, who: &Credentials, progress: Progress) -> Result<Pushed> { unimplemented!() }
    /// `/distribution/{name}/json`.
    pub async fn distribution(&self, name: &Reference, who: &Credentials) -> Result<Distribution> { unimplemented!() }
    /// All tags of a repository, for `pull --all-tags`.
    pub async fn remote_tags(&self, name: &Reference, who: &Credentials) -> Result<Vec<String>> { unimplemented!() }
    /// `docker login`: checks credentials; returns an identity token if the registry gives one.
    pub async fn login(&self, server: &str, who: &Credentials) -> Result<Option<String>> { unimplemented!() }

    // ---- container file systems: a few system calls each, nothing copied or synced
    /// Makes a container's read-write layer on top of an image.
    pub fn prepare_rw(&self, container: &str, image: &ImageId) -> Result<RwLayer> { unimplemented!() }
    /// An existing read-write layer.
    pub fn rw(&self, container: &str) -> Result<RwLayer> { unimplemented!() }
    /// Containers that have a read-write layer.
    pub fn rw_layers(&self) -> Vec<String> { unimplemented!() }
    /// Mounts the overlay on `merged`; nothing happens if it is mounted.
    pub fn mount(&self, container: &str, options: MountOptions) -> Result<RwLayer> { unimplemented!() }
    /// Unmounts; nothing happens if it is not mounted.
    pub fn unmount(&self, container: &str) -> Result<()> { unimplemented!() }
    /// Unmounts and removes; nothing happens if there is none.
    pub fn remove_rw(&self, container: &str) -> Result<()> { unimplemented!() }
    /// Bytes of the files the container wrote.
    pub async fn rw_size(&self, container: &str) -> Result<u64> { unimplemented!() }
    /// `docker diff`, sorted by path.
    pub async fn changes(&self, container: &str) -> Result<Vec<Change>> { unimplemented!() }
    /// What the container changed, as a layer tar with whiteouts.
    pub fn diff(&self, container: &str) -> Result<ByteStream> { unimplemented!() }
    /// `docker commit`.
    pub async fn commit(&self, container: &str, options: CommitOptions) -> Result<ImageId> { unimplemented!() }
}
