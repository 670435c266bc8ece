//! `docker load`.

use std::io::{self, Read};

use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::{
    docker,
    found::Found,
    oci,
    spool::{Member, Spool, invalid, write_error},
};
use crate::{
    compress::{Bounded, decoder},
    config::ImageConfig,
    digest::{ChainId, DiffId, Hashing},
    error::{ArchiveError, Error, Result},
    image::LoadedImage,
    manifest::{Descriptor, media_type::OCI_LAYER},
    platform::Platform,
    progress::Progress,
    reference::Reference,
    space::Growing,
    store::{Images, NewImage, NewLayer, Work},
};

impl Images {
    /// `docker load`: an archive made by `docker save`, or an OCI image layout; plain, gzip, zstd, bzip2 or xz,
    /// as are its layers. Of an index with several platforms, this host's image is taken.
    ///
    /// Reads the archive to its end. Dropping the future does not stop it before the reader ends.
    ///
    /// # Errors
    /// [`Error::Archive`] and [`Error::Unpack`] for a malformed archive. Images before the failing
    /// one stay, of that one nothing remains.
    pub async fn load<R>(&self, archive: R, progress: Progress) -> Result<Vec<LoadedImage>>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        self.blocking(move |inner| {
            let work = Work::start(inner)?;
            load(SyncIoBridge::new(archive), &work, &progress)
        })
        .await
    }
}

/// Loads all images of an archive. Blocking.
pub(crate) fn load<R: Read + Send>(
    archive: R,
    work: &Work,
    progress: &Progress,
) -> Result<Vec<LoadedImage>> {
    let limits = work.store().settings.limits;
    let spool = Spool::read(archive, work, &limits)?;
    let found = if spool.find("manifest.json")?.is_some() {
        docker::images(&spool, &limits)?
    } else if spool.find("index.json")?.is_some() {
        oci::images(&spool, &limits, &Platform::host())?
    } else if spool.find("repositories")?.is_some() {
        return Err(ArchiveError::TooOld.into());
    } else {
        return Err(ArchiveError::Unrecognized.into());
    };
    let mut loaded: Vec<LoadedImage> = Vec::new();
    for image in found {
        loaded.push(store(image, work, progress)?);
    }
    Ok(loaded)
}

fn store(found: Found, work: &Work, progress: &Progress) -> Result<LoadedImage> {
    let inner = work.store();
    let config: ImageConfig = serde_json::from_slice(&found.config)
        .map_err(|source| ArchiveError::Json { member: "image configuration".into(), source })?;
    let os = config.platform().os;
    if !os.is_empty() && os != "linux" {
        let reason = format!("operating system {os:?} cannot be used on this platform");
        return Err(invalid("image configuration", &reason));
    }
    let diff_ids = &config.rootfs.diff_ids;
    if config.rootfs.kind != "layers" {
        return Err(invalid("image configuration", "its rootfs is not made of layers"));
    }
    if diff_ids.len() != found.layers.len() {
        let reason =
            format!("it has {} diff ids for {} layers", diff_ids.len(), found.layers.len());
        return Err(invalid("image configuration", &reason));
    }
    if diff_ids.len() > inner.settings.limits.layers {
        return Err(invalid("image configuration", "it has too many layers"));
    }
    let mut parent = None;
    for (diff_id, (member, media_type)) in diff_ids.iter().zip(&found.layers) {
        parent = Some(add(work, parent, *diff_id, member, media_type.as_deref(), progress)?);
    }
    let new = NewImage {
        config: found.config,
        manifest: found.manifest,
        names: found.names.clone(),
        parent: None,
    };
    let registered = inner.register(work, new)?;
    Ok(LoadedImage {
        id: registered.id,
        references: found.names.iter().map(Reference::familiar).collect(),
        replaced: registered.replaced.into_iter().map(|(name, id)| (name.familiar(), id)).collect(),
    })
}

fn add(
    work: &Work,
    parent: Option<ChainId>,
    diff_id: DiffId,
    member: &Member,
    media_type: Option<&str>,
    progress: &Progress,
) -> Result<ChainId> {
    let chain = ChainId::of(parent.as_ref(), &diff_id);
    if work.pin_layer(chain) {
        return Ok(chain);
    }
    let blob = match media_type {
        Some(media_type) => {
            // A blob used twice was moved by the first use.
            if work.pin_blob(member.digest).is_none() {
                work.publish(&member.path, member.digest, member.size)?;
            }
            Descriptor::new(media_type, member.digest, member.size)
        }
        None => publish_layer(work, member)?,
    };
    let id = diff_id.short();
    let size = blob.size;
    let step = (size / 100).max(64 << 10);
    let next = std::sync::atomic::AtomicU64::new(0);
    let report = |read: u64| {
        use std::sync::atomic::Ordering::Relaxed;
        if read >= next.load(Relaxed) || read == size {
            next.store(read + step, Relaxed);
            progress.bytes(&id, "Loading layer", read, Some(size));
        }
    };
    let new = NewLayer { parent, diff_id: Some(diff_id), blob, progress: &report };
    work.store().add_layer(work, new).map(|(chain, _)| chain)
}

/// Stores a layer as it is compressed; without a compression of which registries know no media type.
pub(super) fn publish_layer(work: &Work, member: &Member) -> Result<Descriptor> {
    let stored = work.store().files.blob(&member.digest);
    let known = work.pin_blob(member.digest).is_some();
    let path = if known { &stored } else { &member.path };
    let file = std::fs::File::open(path).map_err(Error::store("open", path))?;
    let (compression, plain) = decoder(file)?;
    if let Some(media_type) = compression.layer_media_type() {
        if !known {
            work.publish(&member.path, member.digest, member.size)?;
        }
        return Ok(Descriptor::new(media_type, member.digest, member.size));
    }
    let (file, scratch) = work.scratch_file()?;
    let limits = &work.store().settings.limits;
    let mut out = Hashing::new(Growing::new(file, limits));
    let mut plain = Bounded::new(plain, limits.layer_bytes);
    io::copy(&mut plain, &mut out).map_err(|error| write_error(error, &scratch))?;
    let (_, digest, size) = out.finish();
    work.publish(&scratch, digest, size)?;
    Ok(Descriptor::new(OCI_LAYER, digest, size))
}
