//! `docker commit`: a container's changes become a layer.

use std::io::Write;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::error::RwError;
use crate::{
    config::{History, ImageConfig, RunConfig},
    digest::{Hashing, ImageId},
    dockerfile,
    error::{Error, Result},
    manifest::{Descriptor, media_type},
    platform::Platform,
    reference::{Reference, ReferenceError},
    store::{Images, NewImage, NewLayer, Work},
    tar::pack::{PackOptions, pack},
};

/// What `commit` makes.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Name to give it.
    pub reference: Option<Reference>,
    /// The image the container was created from: layers and history come from it.
    pub base: Option<ImageId>,
    /// The container's configuration, laid over the base image's by the caller.
    pub config: RunConfig,
    /// Dockerfile instructions (`--change`), applied last.
    pub changes: Vec<String>,
    /// Author.
    pub author: String,
    /// Comment.
    pub message: String,
    /// The container's command, for the history.
    pub created_by: String,
}

impl Images {
    /// `docker commit`: makes an image of a container's base image and what the container changed.
    /// Pause the container first if it must be consistent.
    ///
    /// # Errors
    /// [`Error::Change`], [`RwError::NotFound`], [`Error::NoSuchImage`] for a base that is gone.
    /// Nothing is left behind.
    pub async fn commit(&self, container: &str, mut options: CommitOptions) -> Result<ImageId> {
        dockerfile::apply(&mut options.config, &options.changes)?;
        if options.reference.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(ReferenceError::TagWithDigest.into());
        }
        let upper = self.rw(container)?.upper;
        let container = container.to_owned();
        self.blocking(move |inner| {
            super::check_depth(&upper)?;
            let work = Work::start(inner)?;
            let (base, top) = {
                let state = inner.state();
                let base = match &options.base {
                    Some(id) => Some(
                        state
                            .images
                            .get(id)
                            .cloned()
                            .ok_or_else(|| Error::NoSuchImage(id.to_string()))?,
                    ),
                    None => None,
                };
                let top = state
                    .rw
                    .get(&container)
                    .copied()
                    .ok_or_else(|| RwError::NotFound(container.clone()))?;
                (base, top)
            };
            let (file, path) = work.scratch_file()?;
            let failed = |e| Error::store("write", &path)(e);
            let mut out = Hashing::new(
                flate2::GzBuilder::new().write(Hashing::new(file), flate2::Compression::fast()),
            );
            pack(&upper, &mut out, &PackOptions { whiteouts: true, ..PackOptions::default() })
                .map_err(failed)?;
            out.flush().map_err(failed)?;
            let (gzip, diff_id, _) = out.finish();
            let (_, digest, size) = gzip.finish().map_err(failed)?.finish();
            work.publish(&path, digest, size)?;
            let blob = Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, size);
            let new = NewLayer {
                parent: top,
                diff_id: Some(crate::digest::DiffId(diff_id)),
                blob,
                progress: &|_| {},
            };
            let (_, diff_id) = inner.add_layer(&work, new)?;
            let created = OffsetDateTime::now_utc().format(&Rfc3339).ok();
            let mut document = match &base {
                Some(base) => (*base.config).clone(),
                None => {
                    let platform = Platform::host();
                    let (os, architecture) = (platform.os, platform.architecture);
                    ImageConfig {
                        os,
                        architecture,
                        variant: platform.variant,
                        ..ImageConfig::default()
                    }
                }
            };
            document.created.clone_from(&created);
            document.author.clone_from(&options.author);
            document.comment.clone_from(&options.message);
            document.container = container;
            document.config = options.config;
            document.rootfs.diff_ids.push(diff_id);
            document.history.push(History {
                created,
                created_by: options.created_by,
                author: options.author,
                comment: options.message,
                empty_layer: false,
            });
            let config = serde_json::to_vec(&document)
                .map_err(|e| Error::store("write", inner.files.root())(e.into()))?;
            let names = options.reference.map(Reference::tagged).into_iter().collect();
            let new = NewImage { config, manifest: None, names, parent: options.base };
            inner.register(&work, new).map(|registered| registered.id)
        })
        .await
    }
}
