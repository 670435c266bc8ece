//! Reading one image back.

use std::sync::Arc;

use super::{
    files::{Files, read_json},
    state::{Record, RecordFile, State},
};
use crate::{
    config::ImageConfig,
    digest::{ChainId, ImageId},
    error::Result,
};

pub(super) fn read_image(
    files: &Files,
    state: &State,
    id: ImageId,
    mut file: RecordFile,
) -> Result<Record> {
    let config: ImageConfig = read_json(&files.blob(&id.0))?;
    let chain = ChainId::stack(&config.rootfs.diff_ids);
    for layer in chain.iter().filter_map(|id| state.layers.get(id)) {
        if !state.blobs.contains_key(&layer.blob.digest) {
            tracing::warn!(image = %id, blob = %layer.blob.digest, "a blob is missing: the image runs, but cannot be saved or pushed");
        }
    }
    file.manifest = file.manifest.filter(|manifest| state.blobs.contains_key(&manifest.digest));
    Ok(Record { id, config: Arc::new(config), chain, file, damage: None })
}
