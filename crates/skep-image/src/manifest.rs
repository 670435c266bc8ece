//! Manifests and indexes of registries and OCI layouts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, platform::Platform};

/// Media types of the documents and layers that are understood.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, uncompressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker manifest, schema 1: recognised to be refused.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

    /// What a client accepts where a manifest is asked for.
    pub const ACCEPT_MANIFEST: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
}

/// A pointer to content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    #[serde(default)]
    pub media_type: String,
    /// Content address.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// What it runs on, within an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Other places it can be had from. Never followed; a layer that has these is refused when the
    /// registry does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: None,
            urls: None,
        }
    }
}

/// A manifest: one image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An index: one manifest for each of several platforms.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

/// Either, told apart by content.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or not of this shape.
    #[error("the manifest is malformed")]
    Json(#[source] serde_json::Error),
    /// A manifest and an index at once: readers would disagree on what it is (CVE-2021-41190).
    #[error("the manifest has both layers and manifests")]
    Ambiguous,
    /// Docker schema 1.
    #[error(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported"
    )]
    Schema1,
    /// Some other document.
    #[error("unsupported manifest media type {0:?}")]
    MediaType(String),
    /// Media types of header and document differ.
    #[error("the manifest was served as {header:?} but calls itself {document:?}")]
    MediaTypeMismatch {
        /// From the answer's Content-Type.
        header: String,
        /// From the document.
        document: String,
    },
    /// An artifact that is no container image.
    #[error("unsupported image configuration media type {0:?}")]
    NotAnImage(String),
    /// More layers than allowed.
    #[error("the image has {0} layers, which is more than the limit")]
    TooManyLayers(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a manifest or index. `header` is the media type it was served with, if any.
    pub(crate) fn parse(
        bytes: &[u8],
        header: Option<&str>,
        max_layers: usize,
    ) -> Result<Self, ManifestError> {
        let probe: Probe = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let header =
            header.map(|h| h.split(';').next().unwrap_or(h).trim()).filter(|h| is_manifest_type(h));
        let schema1 = |t: &str| t.starts_with(media_type::DOCKER_SCHEMA1);
        if probe.fs_layers.is_some() || probe.schema_version == 1 || header.is_some_and(schema1) {
            return Err(ManifestError::Schema1);
        }
        if probe.manifests.is_some() && (probe.layers.is_some() || probe.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        if let Some(header) = header
            && !probe.media_type.is_empty()
            && header != probe.media_type
        {
            return Err(ManifestError::MediaTypeMismatch {
                header: header.into(),
                document: probe.media_type,
            });
        }
        let kind =
            if probe.media_type.is_empty() { header.unwrap_or("") } else { &probe.media_type };
        let is_index = probe.manifests.is_some();
        let expected: &[&str] = if is_index {
            &["", media_type::OCI_INDEX, media_type::DOCKER_LIST]
        } else {
            &["", media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST]
        };
        if !expected.contains(&kind) {
            return Err(ManifestError::MediaType(kind.into()));
        }
        if is_index {
            return serde_json::from_slice(bytes).map(Self::Index).map_err(ManifestError::Json);
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if !matches!(
            manifest.config.media_type.as_str(),
            "" | "application/octet-stream" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) {
            return Err(ManifestError::NotAnImage(manifest.config.media_type));
        }
        if manifest.layers.len() > max_layers {
            return Err(ManifestError::TooManyLayers(manifest.layers.len()));
        }
        Ok(Self::Manifest(manifest))
    }
}

impl Index {
    /// The entry that runs best on `platform`. Attestations and artifacts (platform `unknown`) never
    /// fit; entries without a platform fit only when no other does.
    pub(crate) fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let ranked = self.manifests.iter().filter_map(|entry| {
            let rank = match &entry.platform {
                Some(offer) => platform.rank(offer)?,
                None => u32::MAX,
            };
            Some((rank, entry))
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }
}

impl Manifest {
    /// A Docker schema 2 manifest, or an OCI one if a layer needs that.
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let docker = layers.iter().all(|l| l.media_type == media_type::DOCKER_LAYER_GZIP);
        let (media_type, config_type) = if docker {
            (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
        } else {
            (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
        };
        let oci = |mut layer: Descriptor| {
            if !docker && layer.media_type == media_type::DOCKER_LAYER_GZIP {
                layer.media_type = media_type::OCI_LAYER_GZIP.into();
            }
            layer
        };
        Self {
            schema_version: 2,
            media_type: media_type.into(),
            config: Descriptor { media_type: config_type.into(), ..config },
            layers: layers.into_iter().map(oci).collect(),
        }
    }

    /// The media type to send it with.
    pub(crate) fn kind(&self) -> &str {
        if self.media_type.is_empty() { media_type::OCI_MANIFEST } else { &self.media_type }
    }
}

fn is_manifest_type(text: &str) -> bool {
    media_type::ACCEPT_MANIFEST.contains(&text) || text.starts_with(media_type::DOCKER_SCHEMA1)
}
