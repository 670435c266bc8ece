//! `docker push`.

use std::sync::Arc;

use futures::future::try_join_all;
use http::{Method, StatusCode, header};

use super::{
    Credentials, RegistryError,
    error::{no_place, telling},
    session::{Ask, Session, full},
};
use crate::{
    blocking::blocking,
    digest::{DiffId, Digest, Hashing},
    error::{Error, Result},
    manifest::{Descriptor, Manifest, media_type},
    progress::{Event, Progress, Pushed},
    reference::Reference,
    store::{Images, Inner, Record, Work},
};

/// What a push sends.
struct Plan {
    kind: String,
    bytes: Vec<u8>,
    manifest: Manifest,
    /// Where each layer's bytes are, and its short id for progress.
    layers: Vec<(std::path::PathBuf, String)>,
}

impl Images {
    /// `docker push` of one tag (`latest` if there is none). What the registry has is not sent
    /// again; the digest it got becomes a name of the image.
    ///
    /// Layers that are stored uncompressed are sent with gzip, as registries expect.
    ///
    /// # Errors
    /// [`Error::Registry`].
    pub async fn push(
        &self,
        name: &Reference,
        who: &Credentials,
        progress: Progress,
    ) -> Result<Pushed> {
        let name = name.clone().tagged();
        let Some(tag) = name.tag().map(ToOwned::to_owned) else {
            return Err(crate::reference::ReferenceError::Format.into());
        };
        let name = name.with_tag(&tag)?;
        let record = {
            let state = self.inner.state();
            state.names.get(&name).and_then(|id| state.images.get(id)).cloned()
        };
        let record = record.ok_or_else(|| RegistryError::NotLocal(name.familiar()))?;
        progress.line(format!("The push refers to repository [{}]", name.name()));
        let work = Arc::new(Work::start(&self.inner)?);
        keep(&work, &record);
        let plan = {
            let (work, record) = (Arc::clone(&work), Arc::clone(&record));
            blocking(move || plan(work.store(), &work, &record)).await?
        };
        for (_, short) in &plan.layers {
            progress.status(short.clone(), "Preparing");
        }
        let session = self.push_session(&name, who, &plan).await?;
        let uploads = plan.manifest.layers.iter().zip(&plan.layers).map(|(blob, (path, short))| {
            let sources = self.sources(&name, &blob.digest);
            let (session, progress) = (&session, &progress);
            async move { session.upload_layer(blob, path, short, &sources, progress).await }
        });
        try_join_all(uploads).await?;
        let config = self.inner.files.blob(&record.id.0);
        session.upload_blob(&plan.manifest.config, &config, &|_| {}).await?;
        let digest = session.put_manifest(&tag, &plan.kind, &plan.bytes).await?;
        let size = plan.bytes.len() as u64;
        let pushed = Pushed { tag: tag.clone(), digest: digest.to_string(), size };
        progress.line(format!("{tag}: digest: {digest} size: {size}"));
        progress.send(Event {
            id: None,
            status: "".into(),
            current: None,
            total: None,
            pushed: Some(pushed.clone()),
        });
        let by_digest = name.with_digest(digest);
        self.blocking(move |inner| inner.name(&record, &by_digest)).await?;
        Ok(pushed)
    }

    async fn push_session(
        &self,
        name: &Reference,
        who: &Credentials,
        plan: &Plan,
    ) -> Result<Session, RegistryError> {
        let mut scopes = vec![format!("repository:{}:pull,push", name.path())];
        for blob in &plan.manifest.layers {
            for source in self.sources(name, &blob.digest) {
                let scope = format!("repository:{source}:pull");
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
        let mut first = None;
        for place in self.inner.registry.rules().for_push(name.domain()).await {
            let session = Session::new(&self.inner, place, name.path(), scopes.clone(), who);
            match session.hello(false).await {
                Ok(_) => return Ok(session),
                Err(error) if error.is_passing() => first = telling(first, error),
                Err(error) => return Err(denied(error)),
            }
        }
        Err(first.unwrap_or_else(|| no_place(name.domain())))
    }

    /// Other repositories of the same registry that have this blob, to mount it from.
    fn sources(&self, name: &Reference, blob: &Digest) -> Vec<String> {
        let state = self.inner.state();
        let has = |record: &Record| {
            record
                .chain
                .iter()
                .any(|id| state.layers.get(id).is_some_and(|layer| layer.blob.digest == *blob))
        };
        let others = state.names.iter().filter(|(other, id)| {
            // Only what came from there or went there is there.
            other.digest().is_some()
                && other.domain() == name.domain()
                && other.path() != name.path()
                && state.images.get(id).is_some_and(|record| has(record))
        });
        let mut paths: Vec<String> = others.map(|(other, _)| other.path().to_owned()).collect();
        paths.dedup();
        paths.truncate(3);
        paths
    }
}

impl Session {
    async fn put_manifest(
        &self,
        tag: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let body = || Ok((full(bytes.to_vec()), bytes.len() as u64));
        let url = self.url(&format!("manifests/{tag}"));
        let answer = self
            .send(Ask::new(Method::PUT, url).header(header::CONTENT_TYPE, kind).body(&body))
            .await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(Digest::of(bytes)),
            _ => Err(denied(self.failure(answer).await)),
        }
    }
}

/// Docker's word for what may not be pushed.
pub(super) fn denied(error: RegistryError) -> RegistryError {
    match error {
        RegistryError::Unauthorized { message }
        | RegistryError::Status { status: 403, message, .. } => {
            RegistryError::PushDenied { message }
        }
        other => other,
    }
}

fn keep(work: &Work, record: &Record) {
    work.pin_blob(record.id.0);
    record.manifest().and_then(|manifest| work.pin_blob(manifest.digest));
    record.chain.last().map(|top| work.pin_layer(*top));
}

/// Works out what to send. Blocking.
fn plan(inner: &Inner, work: &Work, record: &Record) -> Result<Plan> {
    let (kind, bytes, manifest) = inner.manifest_of(record)?;
    let diff_ids = &record.config.rootfs.diff_ids;
    if manifest.layers.iter().all(|layer| layer.media_type != media_type::OCI_LAYER) {
        let layers = manifest.layers.iter().zip(diff_ids);
        let layers =
            layers.map(|(layer, id)| (inner.files.blob(&layer.digest), id.short())).collect();
        return Ok(Plan { kind, bytes, manifest, layers });
    }
    let (mut blobs, mut layers) = (Vec::new(), Vec::new());
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let path = inner.files.blob(&layer.digest);
        let (blob, path) = if layer.media_type == media_type::OCI_LAYER {
            gzip(work, &path, diff_id)?
        } else {
            (layer.clone(), path)
        };
        blobs.push(blob);
        layers.push((path, diff_id.short()));
    }
    let manifest = Manifest::new(manifest.config.clone(), blobs);
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|e| Error::store("write", inner.files.root())(e.into()))?;
    Ok(Plan { kind: manifest.kind().to_owned(), bytes, manifest, layers })
}

/// Compresses a layer; the same bytes each time, so that a registry knows it again.
fn gzip(
    work: &Work,
    path: &std::path::Path,
    diff_id: &DiffId,
) -> Result<(Descriptor, std::path::PathBuf)> {
    let mut source = Hashing::new(std::fs::File::open(path).map_err(Error::store("open", path))?);
    let (file, target) = work.scratch_file()?;
    let mut encoder =
        flate2::GzBuilder::new().write(Hashing::new(file), flate2::Compression::fast());
    std::io::copy(&mut source, &mut encoder).map_err(Error::store("compress", path))?;
    let (_, digest, size) = encoder.finish().map_err(Error::store("compress", path))?.finish();
    let (_, actual, _) = source.finish();
    if actual != diff_id.0 {
        return Err(Error::Damaged {
            path: path.into(),
            reason: format!("its content has the digest {actual}"),
        });
    }
    Ok((Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, size), target))
}
