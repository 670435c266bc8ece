//! `docker pull`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use tokio::sync::watch;

use super::{
    Credentials, RegistryError,
    fetch::Fetched,
    running::{Download, Stage},
    session::Session,
};
use crate::{
    blocking::blocking,
    config::ImageConfig,
    digest::{ChainId, DiffId},
    error::{Error, Result},
    image::Pulled,
    manifest::{Descriptor, Document, Manifest},
    platform::Platform,
    progress::Progress,
    reference::Reference,
    store::{Images, NewImage, NewLayer, Work},
};

/// Indexes within indexes.
const MAX_NESTING: usize = 3;
/// Time between two byte counts of one layer.
const TICK: Duration = Duration::from_millis(100);

/// A layer of the image being pulled.
struct Wanted {
    chain: ChainId,
    parent: Option<ChainId>,
    diff_id: DiffId,
    blob: Descriptor,
    /// Short id for progress.
    short: String,
}

impl Images {
    /// `docker pull` of one tag or digest; `latest` if there is neither. Layers that are there are
    /// not fetched, those that another pull fetches are shared. For a tag, the repository's digest
    /// becomes a name as well.
    ///
    /// Cancel safe: dropping the future stops it, and what it fetched alone is removed.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Unpack`]; no name has moved then.
    pub async fn pull(
        &self,
        name: &Reference,
        platform: Option<&Platform>,
        who: &Credentials,
        progress: Progress,
    ) -> Result<Pulled> {
        let name = name.clone().tagged();
        if name.name() == "docker.io/library/scratch" {
            return Err(crate::reference::ReferenceError::Reserved.into());
        }
        let work = Arc::new(Work::start(&self.inner)?);
        let (session, top) = self.find_manifest(&name, who).await?;
        let session = Arc::new(session);
        let label = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        progress.status(label, format!("Pulling from {}", name.path()));
        let digest = top.digest;
        let host = Platform::host();
        let (bytes, kind, manifest) =
            resolve(&session, &name, top, platform.unwrap_or(&host)).await?;
        let limit = self.inner.settings.limits.config_bytes;
        let document = session.small_blob(&manifest.config, limit).await?;
        let config: ImageConfig = serde_json::from_slice(&document)
            .map_err(|source| RegistryError::Config { reference: name.familiar(), source })?;
        check_platform(&name, platform, &config)?;
        let layers = wanted(&manifest, &config)?;
        self.fetch_layers(&session, &work, layers, &progress).await?;
        let mut names = vec![name.with_digest(digest)];
        if let (None, Some(tag)) = (name.digest(), name.tag()) {
            names.push(name.with_tag(tag)?);
        }
        let new = NewImage { config: document, manifest: Some((kind, bytes)), names, parent: None };
        let registered = blocking(move || work.store().register(&work, new)).await?;
        progress.line(format!("Digest: {digest}"));
        let changed = registered.changed;
        let what = if changed { "Downloaded newer image for" } else { "Image is up to date for" };
        progress.line(format!("Status: {what} {}", name.familiar()));
        Ok(Pulled { id: registered.id, digest, changed })
    }

    /// Downloads side by side, unpacks one on top of the other.
    async fn fetch_layers(
        &self,
        session: &Arc<Session>,
        work: &Arc<Work>,
        layers: Vec<Wanted>,
        progress: &Progress,
    ) -> Result<()> {
        let mut missing = Vec::new();
        for layer in layers {
            if work.pin_layer(layer.chain) {
                progress.status(layer.short.clone(), "Already exists");
            } else {
                progress.status(layer.short.clone(), "Pulling fs layer");
                missing.push(layer);
            }
        }
        let mut ready = Vec::new();
        let mut watchers = Vec::new();
        for layer in &missing {
            let (sender, receiver) = watch::channel(false);
            ready.push(receiver);
            watchers.push(fetch_layer(session, work, layer, progress, sender));
        }
        let unpack = async {
            for (layer, mut ready) in missing.iter().zip(ready) {
                // The sender goes only when its download failed, which ends all of this.
                if ready.wait_for(|ready| *ready).await.is_err() {
                    return std::future::pending().await;
                }
                self.unpack_layer(work, layer, progress).await?;
            }
            Ok::<(), Error>(())
        };
        tokio::try_join!(try_join_all(watchers), unpack).map(drop)
    }

    async fn unpack_layer(
        &self,
        work: &Arc<Work>,
        layer: &Wanted,
        progress: &Progress,
    ) -> Result<()> {
        let lock = self.inner.unpacking(layer.chain);
        let _guard = lock.lock().await;
        let (work, progress, short) = (Arc::clone(work), progress.clone(), layer.short.clone());
        let (parent, diff_id, blob) = (layer.parent, layer.diff_id, layer.blob.clone());
        blocking(move || {
            let (total, step) = (blob.size, (blob.size / 100).max(256 << 10));
            let next = AtomicU64::new(0);
            let report = |read: u64| {
                if read >= next.load(Ordering::Relaxed) {
                    next.store(read + step, Ordering::Relaxed);
                    progress.bytes(&short, "Extracting", read, Some(total));
                }
            };
            let new = NewLayer { parent, diff_id: Some(diff_id), blob, progress: &report };
            work.store().add_layer(&work, new)?;
            progress.status(short.clone(), "Pull complete");
            Ok(())
        })
        .await
    }
}

/// Waits for a layer's blob, telling how far it is. With somebody else's download failed, it is
/// tried once more with our own credentials.
async fn fetch_layer(
    session: &Arc<Session>,
    work: &Work,
    layer: &Wanted,
    progress: &Progress,
    ready: watch::Sender<bool>,
) -> Result<()> {
    loop {
        let (download, own) = session.inner.registry.download(session, &layer.blob)?;
        match watch(&download, layer, progress).await {
            Ok(()) => {
                // Ours from here on.
                if work.pin_blob(layer.blob.digest).is_none() {
                    continue;
                }
                ready.send_replace(true);
                // The unpacking side has its pin; the shared download may go.
                return Ok(());
            }
            Err(error) if own => return Err(error),
            Err(error) => {
                tracing::info!(blob = %layer.blob.digest, error = %error.report(), "another pull's download failed");
            }
        }
    }
}

async fn watch(download: &Arc<Download>, layer: &Wanted, progress: &Progress) -> Result<()> {
    let mut stage = download.stage();
    let mut last: Option<Instant> = None;
    loop {
        let now = stage.borrow_and_update().clone();
        match now {
            Stage::Waiting => progress.status(layer.short.clone(), "Waiting"),
            Stage::Running(done) if last.is_none_or(|last| last.elapsed() >= TICK) => {
                last = Some(Instant::now());
                progress.bytes(&layer.short, "Downloading", done, Some(layer.blob.size));
            }
            Stage::Running(_) => {}
            Stage::Verifying => progress.status(layer.short.clone(), "Verifying Checksum"),
            Stage::Done => {
                progress.status(layer.short.clone(), "Download complete");
                return Ok(());
            }
            Stage::Failed(error) => return Err(error.into()),
        }
        if stage.changed().await.is_err() {
            return Err(Error::Cancelled);
        }
    }
}

/// Follows indexes to the manifest for a platform.
async fn resolve(
    session: &Session,
    name: &Reference,
    top: Fetched,
    platform: &Platform,
) -> Result<(Vec<u8>, String, Manifest), RegistryError> {
    let mut fetched = top;
    for _ in 0..=MAX_NESTING {
        let index = match fetched.document {
            Document::Manifest(manifest) => {
                return Ok((fetched.bytes, fetched.media_type, manifest));
            }
            Document::Index(index) => index,
        };
        let entry = index
            .choose(platform)
            .ok_or_else(|| RegistryError::NoPlatform(platform.to_string()))?;
        fetched = session.manifest(name, &entry.digest.to_string()).await?;
        let actual = fetched.bytes.len() as u64;
        if actual != entry.size {
            let what = format!("manifest {}", entry.digest);
            return Err(RegistryError::Size { what, expected: entry.size, actual });
        }
    }
    Err(RegistryError::Protocol {
        url: session.url("manifests"),
        reason: "indexes are nested too deeply".into(),
    })
}

fn check_platform(
    name: &Reference,
    platform: Option<&Platform>,
    config: &ImageConfig,
) -> Result<()> {
    match platform {
        Some(platform) if platform.rank(&config.platform()).is_none() => {
            Err(Error::PlatformMismatch {
                reference: name.familiar(),
                platform: platform.to_string(),
            })
        }
        _ => Ok(()),
    }
}

fn wanted(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Wanted>, RegistryError> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() || config.rootfs.kind != "layers" {
        return Err(RegistryError::LayerMismatch);
    }
    let mut parent = None;
    let mut layers = Vec::new();
    for (diff_id, blob) in diff_ids.iter().zip(&manifest.layers) {
        let chain = ChainId::of(parent.as_ref(), diff_id);
        let blob = Descriptor::new(blob.media_type.clone(), blob.digest, blob.size);
        layers.push(Wanted { chain, parent, diff_id: *diff_id, short: blob.digest.short(), blob });
        parent = Some(chain);
    }
    Ok(layers)
}
