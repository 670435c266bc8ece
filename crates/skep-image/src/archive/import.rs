//! `docker import`: a root file system becomes an image.

use std::io::{self, Read};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::{
    load::publish_layer,
    spool::{Member, write_error},
};
use crate::{
    config::{History, ImageConfig, RootFs, RunConfig},
    digest::{Hashing, ImageId},
    dockerfile,
    error::{Error, Result},
    platform::Platform,
    progress::Progress,
    reference::{Reference, ReferenceError},
    space::Growing,
    store::{Images, NewImage, NewLayer, Work},
};

/// What `import` makes of a root file system.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Name to give it.
    pub reference: Option<Reference>,
    /// Dockerfile instructions (`--change`): `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `HEALTHCHECK`,
    /// `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`.
    pub changes: Vec<String>,
    /// Comment; Docker's client says `Imported from -`.
    pub message: Option<String>,
    /// What it runs on; this host's platform if not given.
    pub platform: Option<Platform>,
}

impl Images {
    /// `docker import`: makes an image with one layer from a tar archive of a root file system,
    /// plain, gzip or zstd.
    ///
    /// # Errors
    /// [`Error::Change`] before anything is read; [`Error::Unpack`] and [`Error::Archive`] for a
    /// malformed archive. Nothing is left behind.
    pub async fn import<R>(
        &self,
        archive: R,
        options: ImportOptions,
        progress: Progress,
    ) -> Result<ImageId>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let mut config = RunConfig::default();
        dockerfile::apply(&mut config, &options.changes)?;
        if options.reference.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(ReferenceError::TagWithDigest.into());
        }
        self.blocking(move |inner| {
            let work = Work::start(inner)?;
            import(SyncIoBridge::new(archive), config, options, &work, &progress)
        })
        .await
    }
}

fn import<R: Read + Send>(
    mut archive: R,
    config: RunConfig,
    options: ImportOptions,
    work: &Work,
    progress: &Progress,
) -> Result<ImageId> {
    let (file, path) = work.scratch_file()?;
    let limits = &work.store().settings.limits;
    let mut out = Hashing::new(Growing::new(file, limits));
    let mut bounded = crate::compress::Bounded::new(&mut archive, limits.archive_bytes);
    io::copy(&mut bounded, &mut out).map_err(|e| write_error(e, &path))?;
    let (_, digest, size) = out.finish();
    let blob = publish_layer(work, &Member { path, digest, size })?;
    let new = NewLayer { parent: None, diff_id: None, blob, progress: &|_| {} };
    let (_, diff_id) = work.store().add_layer(work, new)?;
    let created = OffsetDateTime::now_utc().format(&Rfc3339).ok();
    let platform = options.platform.unwrap_or_else(Platform::host);
    let comment = options.message.unwrap_or_else(|| "Imported from -".into());
    let document = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        created: created.clone(),
        comment: comment.clone(),
        config,
        rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
        history: vec![History { created, comment, ..History::default() }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&document)
        .map_err(|e| Error::store("write", work.store().files.root())(e.into()))?;
    let names = options.reference.map(Reference::tagged).into_iter().collect();
    let registered =
        work.store().register(work, NewImage { config, manifest: None, names, parent: None })?;
    progress.line(registered.id.to_string());
    Ok(registered.id)
}
