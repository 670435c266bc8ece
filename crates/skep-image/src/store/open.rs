//! Reading a store back, and clearing what an interrupted operation left.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rustix::fs::{FlockOperation, flock};
use skep_sys::files::{open_own, remove_tree};

use super::{
    Inner,
    files::{Files, list, read_json},
    state::{Layer, Record, RecordFile, State},
};
use crate::{
    config::ImageConfig,
    digest::{ChainId, Digest, ImageId},
    error::{Error, Result},
    reference::Reference,
    registry::Registry,
    settings::Settings,
};

pub(super) fn open(root: PathBuf, settings: Settings) -> Result<Inner> {
    let files = Files::open(root)?;
    let lock_path = files.root().join("lock");
    let lock = open_own(&lock_path, 0o600).map_err(Error::store("create", &lock_path))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => Error::Locked(files.root().into()),
        errno => Error::store("lock", &lock_path)(errno.into()),
    })?;
    let tmp = files.root().join("tmp");
    for name in list(&tmp)? {
        let path = tmp.join(name);
        remove_tree(&path).map_err(Error::store("remove", &path))?;
    }
    let mut state = State::default();
    read_blobs(&files, &mut state)?;
    read_layers(&files, &mut state)?;
    read_rw(&files, &mut state)?;
    read_images(&files, &mut state)?;
    read_names(&files, &mut state)?;
    let swept = state.sweep(&files);
    if !swept.is_empty() {
        tracing::info!(
            layers = swept.layers.len(),
            "removed what an interrupted operation left in the image store"
        );
        swept.remove();
    }
    remove_stray_links(&files, &state)?;
    Ok(Inner {
        registry: Registry::new(&settings)?,
        files,
        settings,
        state: Mutex::new(state),
        commit: Mutex::new(()),
        unpacking: Mutex::default(),
        _lock: lock,
    })
}

fn read_blobs(files: &Files, state: &mut State) -> Result<()> {
    let folder = files.root().join("blobs/sha256");
    for name in list(&folder)? {
        let path = folder.join(&name);
        let size = fs::metadata(&path).map_err(Error::store("look at", &path))?.len();
        match Digest::from_hex(&name) {
            Some(digest) => _ = state.blobs.insert(digest, size),
            None => tracing::warn!(path = %path.display(), "stray file in the image store"),
        }
    }
    Ok(())
}

/// A layer that cannot be read is one that was being made when the power went; nothing needs it yet.
fn read_layers(files: &Files, state: &mut State) -> Result<()> {
    for name in list(&files.root().join("layers"))? {
        let path = files.root().join("layers").join(&name);
        let layer = Digest::from_hex(&name)
            .and_then(|id| Some((id, read_json::<Layer>(&path.join("layer.json")).ok()?)));
        match layer {
            Some((id, layer)) => _ = state.layers.insert(ChainId(id), Arc::new(layer)),
            None => {
                tracing::warn!(path = %path.display(), "removing an unfinished layer");
                remove_tree(&path).map_err(Error::store("remove", &path))?;
            }
        }
    }
    Ok(())
}

fn read_rw(files: &Files, state: &mut State) -> Result<()> {
    for container in list(&files.root().join("rw"))? {
        let link = files.rw(&container).join("parent");
        // A link is a single atomic step and says it all: no file to sync on the way to a container.
        let Ok(target) = fs::read_link(&link) else {
            let path = files.rw(&container);
            tracing::warn!(path = %path.display(), "removing an unfinished read-write layer");
            remove_tree(&path).map_err(Error::store("remove", &path))?;
            continue;
        };
        let top = target.to_str().and_then(|text| text.parse().ok());
        state.rw.insert(container, top);
    }
    Ok(())
}

fn read_images(files: &Files, state: &mut State) -> Result<()> {
    for name in list(&files.root().join("images"))? {
        let path = files.root().join("images").join(&name);
        let Some(id) = name.strip_suffix(".json").and_then(Digest::from_hex).map(ImageId) else {
            tracing::warn!(path = %path.display(), "stray file in the image store");
            continue;
        };
        let record = read_json(&path).and_then(|file| read_image(files, state, id, file));
        match record {
            Ok(record) => _ = state.images.insert(id, Arc::new(record)),
            Err(error) => {
                tracing::warn!(image = %id, error = %error.report(), "ignoring a damaged image");
            }
        }
    }
    Ok(())
}

pub(super) fn read_image(
    files: &Files,
    state: &State,
    id: ImageId,
    mut file: RecordFile,
) -> Result<Record> {
    let path = files.blob(&id.0);
    let config: ImageConfig = read_json(&path)?;
    let chain = ChainId::stack(&config.rootfs.diff_ids);
    let damaged = |reason| Error::Damaged { path: path.clone(), reason };
    for layer in &chain {
        let layer = state
            .layers
            .get(layer)
            .ok_or_else(|| damaged(format!("its layer {layer} is missing")))?;
        if !state.blobs.contains_key(&layer.blob.digest) {
            tracing::warn!(image = %id, blob = %layer.blob.digest, "a blob is missing: the image runs, but cannot be saved or pushed");
        }
    }
    file.manifest = file.manifest.filter(|manifest| state.blobs.contains_key(&manifest.digest));
    Ok(Record { id, config: Arc::new(config), chain, file })
}

fn read_names(files: &Files, state: &mut State) -> Result<()> {
    let path = files.names();
    if !path.exists() {
        return Ok(());
    }
    let names: BTreeMap<String, ImageId> = read_json(&path)?;
    for (name, id) in names {
        match Reference::parse(&name) {
            Ok(reference) if state.images.contains_key(&id) => {
                _ = state.names.insert(reference, id)
            }
            _ => tracing::warn!(%name, image = %id, "ignoring a name that points nowhere"),
        }
    }
    Ok(())
}

fn remove_stray_links(files: &Files, state: &State) -> Result<()> {
    let known: std::collections::HashSet<&str> =
        state.layers.values().map(|layer| layer.link.as_str()).collect();
    for name in list(&files.root().join("l"))? {
        if !known.contains(name.as_str()) {
            let path = files.link(&name);
            fs::remove_file(&path).map_err(Error::store("remove", &path))?;
        }
    }
    Ok(())
}
