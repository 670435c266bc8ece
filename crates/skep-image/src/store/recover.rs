//! Images of which the note is lost.
//!
//! What an image is stands in its configuration, whose digest is its id, and in its layers. A note says only
//! where it came from; without one, the image is as good as before.

use std::sync::Arc;

use super::{
    files::Files,
    image::read_image,
    state::{Record, RecordFile, State},
};
use crate::{
    config::ImageConfig,
    digest::{Digest, ImageId},
    manifest::{Descriptor, Document, Manifest, media_type},
};

/// Bytes of a document that is looked into. Registries refuse larger ones.
const LARGEST: u64 = 8 << 20;

/// Finds images and manifests among the content that nothing names and nobody gave up.
pub(super) fn recover_images(files: &Files, state: &mut State) {
    let documents = lost_documents(files, state);
    for (digest, bytes) in &documents {
        let id = ImageId(*digest);
        if serde_json::from_slice::<ImageConfig>(bytes).is_err() {
            continue;
        }
        match read_image(files, state, id, RecordFile::default()) {
            Ok(record) if record.chain.iter().all(|id| state.layers.contains_key(id)) => {
                tracing::warn!(image = %id, "an image of which nothing was noted is known by its configuration");
                state.images.insert(id, Arc::new(record));
            }
            _ => {}
        }
    }
    for (digest, bytes) in &documents {
        let Ok(Document::Manifest(manifest)) = Document::parse(bytes, None, usize::MAX) else {
            continue;
        };
        let id = ImageId(manifest.config.digest);
        let Some(record) = state.images.get(&id).filter(|r| came_with(state, r, &manifest)) else {
            continue;
        };
        let media_type = match manifest.media_type.as_str() {
            "" => media_type::OCI_MANIFEST,
            given => given,
        };
        let manifest = Some(Descriptor::new(media_type, *digest, bytes.len() as u64));
        let file = RecordFile { manifest, ..record.file.clone() };
        if let Ok(record) = read_image(files, state, id, file) {
            state.images.insert(id, Arc::new(record));
        }
    }
}

/// The manifest is this image's, with the layers as they are stored here.
fn came_with(state: &State, record: &Record, manifest: &Manifest) -> bool {
    let stored = record.chain.iter().map(|id| state.layers.get(id).map(|layer| layer.blob.digest));
    record.damage.is_none()
        && record.file.manifest.is_none()
        && manifest.layers.len() == record.chain.len()
        && stored.eq(manifest.layers.iter().map(|layer| Some(layer.digest)))
}

/// JSON documents that are neither named nor given up, whole by their digests.
fn lost_documents(files: &Files, state: &State) -> Vec<(Digest, Vec<u8>)> {
    let mut named = state.given_up();
    named.extend(state.layers.values().map(|layer| layer.blob.digest));
    for record in state.images.values() {
        named.insert(record.id.0);
        named.extend(record.manifest().map(|m| m.digest));
    }
    let lost = state.blobs.iter().filter(|(d, size)| !named.contains(d) && **size <= LARGEST);
    lost.filter_map(|(digest, _)| {
        let bytes = skep_sys::files::read(&files.blob(digest)).ok().flatten()?;
        (bytes.first() == Some(&b'{') && Digest::of(&bytes) == *digest).then_some((*digest, bytes))
    })
    .collect()
}
