//! Archives with a `manifest.json`: `docker save` since 1.10, old and modern.

use serde::Deserialize;

use super::{
    found::Found,
    spool::{Spool, invalid},
};
use crate::{
    digest::Digest,
    error::Result,
    manifest::{Document, Index, Manifest},
    reference::Reference,
    settings::Limits,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn images(spool: &Spool, limits: &Limits) -> Result<Vec<Found>> {
    let items: Vec<Item> = spool.json("manifest.json")?.unwrap_or_default();
    items.into_iter().map(|item| image(spool, limits, item)).collect()
}

fn image(spool: &Spool, limits: &Limits, item: Item) -> Result<Found> {
    let config = spool.bytes(&item.config, limits.config_bytes)?;
    let mut layers = Vec::new();
    for name in item.layers.unwrap_or_default() {
        layers.push((spool.get(&name)?.clone(), None));
    }
    let mut names = Vec::new();
    for tag in item.repo_tags.unwrap_or_default() {
        let name = Reference::parse(&tag)
            .map_err(|e| invalid("manifest.json", &format!("{tag:?}: {e}")))?;
        if name.tag().is_none() || name.digest().is_some() {
            return Err(invalid("manifest.json", &format!("{tag:?} is no name with a tag")));
        }
        names.push(name);
    }
    let manifest = original_manifest(spool, limits, &config)?;
    if let Some((_, _, manifest)) = &manifest
        && manifest.layers.len() == layers.len()
    {
        for ((member, media_type), layer) in layers.iter_mut().zip(&manifest.layers) {
            if member.digest == layer.digest {
                *media_type = Some(layer.media_type.clone());
            }
        }
    }
    Ok(Found { config, layers, manifest: manifest.map(|(kind, bytes, _)| (kind, bytes)), names })
}

/// The manifest which an OCI layout in the same archive has for this configuration: with it, the
/// image keeps its digest when it is pushed.
fn original_manifest(
    spool: &Spool,
    limits: &Limits,
    config: &[u8],
) -> Result<Option<(String, Vec<u8>, Manifest)>> {
    let Some(index) = spool.json::<Index>("index.json")? else { return Ok(None) };
    let id = Digest::of(config);
    for entry in index.manifests {
        // Indexes and attestations may be listed without being in the archive.
        let Ok(member) = spool.blob(&entry) else { continue };
        if member.size > limits.manifest_bytes {
            continue;
        }
        let bytes = spool.bytes(&super::spool::blob_name(&entry.digest), limits.manifest_bytes)?;
        if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None, limits.layers)
            && manifest.config.digest == id
        {
            return Ok(Some((manifest.kind().to_owned(), bytes, manifest)));
        }
    }
    Ok(None)
}
