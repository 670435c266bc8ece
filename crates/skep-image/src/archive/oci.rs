//! OCI image layouts in a tar archive (OCI image specification, `image-layout.md`).

use super::{
    found::Found,
    spool::{Spool, blob_name, invalid},
};
use crate::{
    error::Result,
    manifest::{Descriptor, Document, Index, Manifest},
    platform::Platform,
    reference::Reference,
    settings::Limits,
};

/// Whole name, written by containerd and BuildKit.
const NAME: &str = "io.containerd.image.name";
/// Tag or whole name, by the OCI specification.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes within indexes.
const MAX_NESTING: usize = 4;

pub(super) fn images(spool: &Spool, limits: &Limits, platform: &Platform) -> Result<Vec<Found>> {
    let index: Index =
        spool.json("index.json")?.ok_or_else(|| invalid("index.json", "it is missing"))?;
    // Several entries without names for several platforms are one image.
    if index.manifests.len() > 1 && index.manifests.iter().all(|entry| name_of(entry).is_none()) {
        let entry = index.choose(platform).ok_or_else(|| no_platform(platform))?;
        return image(spool, limits, platform, entry).map(|found| found.into_iter().collect());
    }
    let mut found: Vec<Found> = Vec::new();
    for entry in &index.manifests {
        found.extend(image(spool, limits, platform, entry)?);
    }
    if found.is_empty() {
        return Err(no_platform(platform));
    }
    Ok(found)
}

fn image(
    spool: &Spool,
    limits: &Limits,
    platform: &Platform,
    entry: &Descriptor,
) -> Result<Option<Found>> {
    let names = match name_of(entry) {
        Some(text) => {
            let name = Reference::parse(text)
                .map_err(|e| invalid("index.json", &format!("{text:?}: {e}")))?;
            let name = name.tagged();
            // With both, the tag is the name and the digest follows from the content.
            match name.tag() {
                Some(tag) => vec![name.with_tag(tag)?],
                None => Vec::new(),
            }
        }
        None => Vec::new(),
    };
    let Some((kind, bytes, manifest)) = resolve(spool, limits, platform, entry, 0)? else {
        return Ok(None);
    };
    spool.blob(&manifest.config)?;
    let config = spool.bytes(&blob_name(&manifest.config.digest), limits.config_bytes)?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        layers.push((spool.blob(layer)?.clone(), Some(layer.media_type.clone())));
    }
    Ok(Some(Found { config, layers, manifest: Some((kind, bytes)), names }))
}

/// Follows indexes to the manifest for this platform.
fn resolve(
    spool: &Spool,
    limits: &Limits,
    platform: &Platform,
    entry: &Descriptor,
    depth: usize,
) -> Result<Option<(String, Vec<u8>, Manifest)>> {
    let name = blob_name(&entry.digest);
    if depth > MAX_NESTING {
        return Err(invalid(&name, "indexes are nested too deeply"));
    }
    spool.blob(entry)?;
    let bytes = spool.bytes(&name, limits.manifest_bytes)?;
    let header = Some(entry.media_type.as_str()).filter(|t| !t.is_empty());
    let document = Document::parse(&bytes, header, limits.layers)
        .map_err(|e| invalid(&name, &skep_types::report(&e)))?;
    match document {
        Document::Manifest(manifest) => Ok(Some((manifest.kind().to_owned(), bytes, manifest))),
        Document::Index(index) => match index.choose(platform) {
            Some(entry) => resolve(spool, limits, platform, entry, depth + 1),
            None => Ok(None),
        },
    }
}

fn name_of(entry: &Descriptor) -> Option<&str> {
    let annotations = entry.annotations.as_ref()?;
    if let Some(name) = annotations.get(NAME) {
        return Some(name);
    }
    // A bare tag names nothing.
    annotations.get(REF_NAME).map(String::as_str).filter(|name| name.contains([':', '/']))
}

fn no_platform(platform: &Platform) -> crate::error::Error {
    invalid("index.json", &format!("it has no image for {platform}"))
}
