//! Manifests and small blobs.

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderName, Method, StatusCode, header};
use serde::Deserialize;

use super::{
    Credentials, RegistryError,
    error::{no_place, telling},
    session::{Ask, Session},
    url,
};
use crate::{
    digest::Digest,
    error::Result,
    image::Distribution,
    manifest::{Descriptor, Document, media_type::ACCEPT_MANIFEST},
    platform::Platform,
    reference::Reference,
    store::Images,
};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Bytes of one page of tags.
const MAX_TAGS: u64 = 8 << 20;
const MAX_TAG_PAGES: usize = 1000;

/// A manifest or index as fetched.
pub(super) struct Fetched {
    pub(super) document: Document,
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: String,
    pub(super) digest: Digest,
}

impl Session {
    /// Fetches a manifest or index by tag or digest, verified.
    pub(super) async fn manifest(
        &self,
        name: &Reference,
        at: &str,
    ) -> Result<Fetched, RegistryError> {
        let reference = || name.familiar();
        let mut ask = Ask::new(Method::GET, self.url(&format!("manifests/{at}")));
        for kind in ACCEPT_MANIFEST {
            ask = ask.header(header::ACCEPT, kind);
        }
        let answer = self.send(ask).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                let message = words(self.failure(answer).await);
                return Err(RegistryError::NoManifest { reference: reference(), message });
            }
            _ => return Err(denied_pull(self.failure(answer).await, name)),
        }
        let header_type = answer.header(header::CONTENT_TYPE).map(ToOwned::to_owned);
        let promised = answer.header(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        let bytes = self.bytes(answer, self.inner.settings.limits.manifest_bytes).await?;
        let actual = Digest::of(&bytes);
        let expected = at.parse::<Digest>().ok().or(promised).unwrap_or(actual);
        if actual != expected {
            return Err(RegistryError::Digest {
                what: format!("manifest of {}", reference()),
                expected,
                actual,
            });
        }
        let document =
            Document::parse(&bytes, header_type.as_deref(), self.inner.settings.limits.layers)
                .map_err(|source| RegistryError::Manifest { reference: reference(), source })?;
        let media_type = match &document {
            Document::Manifest(manifest) if manifest.media_type.is_empty() => header_type,
            Document::Index(index) if index.media_type.is_empty() => header_type,
            Document::Manifest(manifest) => Some(manifest.media_type.clone()),
            Document::Index(index) => Some(index.media_type.clone()),
        };
        let media_type = media_type.unwrap_or_default();
        Ok(Fetched { document, bytes, media_type, digest: actual })
    }

    /// Fetches a blob that fits into memory, verified.
    pub(super) async fn small_blob(
        &self,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&format!("blobs/{}", blob.digest));
        if blob.size > limit {
            return Err(RegistryError::TooLarge { url, limit });
        }
        let answer = self.send(Ask::new(Method::GET, url)).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.failure(answer).await);
        }
        let bytes = self.bytes(answer, limit).await?;
        let what = format!("blob {}", blob.digest);
        if bytes.len() as u64 != blob.size {
            return Err(RegistryError::Size {
                what,
                expected: blob.size,
                actual: bytes.len() as u64,
            });
        }
        let actual = Digest::of(&bytes);
        if actual != blob.digest {
            return Err(RegistryError::Digest { what, expected: blob.digest, actual });
        }
        Ok(bytes)
    }

    async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut next = Some(self.url("tags/list"));
        for _ in 0..MAX_TAG_PAGES {
            let Some(url) = next else { return Ok(tags) };
            let answer = self.send(Ask::new(Method::GET, url.as_str())).await?;
            if answer.status() != StatusCode::OK {
                return Err(self.failure(answer).await);
            }
            // Link: </v2/a/tags/list?n=…&last=…>; rel="next"
            let link = answer.header(header::LINK).filter(|link| link.contains("next"));
            let link = link
                .and_then(|link| link.split_once('<')?.1.split_once('>'))
                .map(|(target, _)| target.to_owned());
            next = link.map(|link| url::resolve(&answer.url, &link)).transpose()?;
            let bytes = self.bytes(answer, MAX_TAGS).await?;
            let page: Page =
                serde_json::from_slice(&bytes).map_err(|e| RegistryError::Protocol {
                    url,
                    reason: format!("its list of tags is malformed: {e}"),
                })?;
            tags.extend(page.tags.unwrap_or_default());
        }
        Ok(tags)
    }
}

impl Images {
    /// What a registry has under a name, without pulling it (`/distribution/{name}/json`).
    ///
    /// # Errors
    /// [`crate::Error::Registry`].
    pub async fn distribution(&self, name: &Reference, who: &Credentials) -> Result<Distribution> {
        let name = name.clone().tagged();
        let (session, fetched) = self.find_manifest(&name, who).await?;
        let platforms = match &fetched.document {
            Document::Index(index) => {
                let known = |p: &&Platform| p.os != "unknown";
                index
                    .manifests
                    .iter()
                    .filter_map(|entry| entry.platform.as_ref())
                    .filter(known)
                    .cloned()
                    .collect()
            }
            Document::Manifest(manifest) => {
                let limit = self.inner.settings.limits.config_bytes;
                let bytes = session.small_blob(&manifest.config, limit).await?;
                let config: crate::config::ImageConfig =
                    serde_json::from_slice(&bytes).map_err(|source| RegistryError::Config {
                        reference: name.familiar(),
                        source,
                    })?;
                vec![config.platform()]
            }
        };
        let size = fetched.bytes.len() as u64;
        Ok(Distribution {
            reference: name,
            media_type: fetched.media_type,
            digest: fetched.digest,
            size,
            platforms,
        })
    }

    /// All tags of a repository, for `pull --all-tags`.
    ///
    /// # Errors
    /// [`crate::Error::Registry`].
    pub async fn remote_tags(&self, name: &Reference, who: &Credentials) -> Result<Vec<String>> {
        let session = self.any_place(name, who, |session| session.tags().boxed()).await?;
        Ok(session.1)
    }

    /// The manifest or index of a name, from the first place that has it.
    pub(super) async fn find_manifest(
        &self,
        name: &Reference,
        who: &Credentials,
    ) -> Result<(Session, Fetched), RegistryError> {
        let at = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(crate::reference::DEFAULT_TAG).to_owned(),
        };
        let wanted = name.clone();
        self.any_place(name, who, move |session| {
            let (name, at) = (wanted.clone(), at.clone());
            async move { session.manifest(&name, &at).await }.boxed()
        })
        .await
    }

    /// Tries the places of a registry in order. A mirror may fail in any way; of several ways to
    /// one registry, only those that do not answer are passed over.
    async fn any_place<T>(
        &self,
        name: &Reference,
        who: &Credentials,
        what: impl for<'s> Fn(&'s Session) -> BoxFuture<'s, Result<T, RegistryError>> + Send + Sync,
    ) -> Result<(Session, T), RegistryError> {
        let scope = format!("repository:{}:pull", name.path());
        let mut first = None;
        for place in self.inner.registry.rules().for_pull(name.domain()).await {
            let mirror = place.mirror;
            let base = place.base.clone();
            let session = Session::new(&self.inner, place, name.path(), vec![scope.clone()], who);
            let result = match session.hello(false).await {
                Ok(_) => what(&session).await,
                Err(error) => Err(denied_pull(error, name)),
            };
            match result {
                Ok(value) => return Ok((session, value)),
                Err(error) if mirror => {
                    tracing::warn!(mirror = base, error = %skep_types::report(&error), "a mirror failed")
                }
                Err(error) if error.is_passing() => first = telling(first, error),
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or_else(|| no_place(name.domain())))
    }
}

/// Docker's words for a repository that is not there or not for everybody.
fn denied_pull(error: RegistryError, name: &Reference) -> RegistryError {
    match error {
        RegistryError::Unauthorized { message }
        | RegistryError::Status { status: 403, message, .. } => {
            RegistryError::PullDenied { repository: name.familiar_name(), message }
        }
        other => other,
    }
}

fn words(error: RegistryError) -> String {
    match error {
        RegistryError::Status { message, .. } => message,
        other => other.to_string(),
    }
}
