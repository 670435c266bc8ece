//! Reading a store back, and clearing what an interrupted operation left.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rustix::fs::{FlockOperation, flock};
use skep_sys::files::{Reserve, open_lock, remove_tree, set_aside};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Inner,
    files::{Files, list, read_json, read_state},
    state::{Layer, NamesFile, Record, RecordFile, State},
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
    let lock = open_lock(&lock_path, 0o600).map_err(Error::store("create", &lock_path))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => Error::Locked(files.root().into()),
        errno => Error::store("lock", &lock_path)(errno.into()),
    })?;
    let tmp = files.root().join("tmp");
    for name in list(&tmp)? {
        let path = tmp.join(name);
        if let Err(error) = remove_tree(&path) {
            tracing::warn!(
                path = %path.display(),
                error = &error as &dyn std::error::Error,
                "cannot remove what an interrupted operation left"
            );
        }
    }
    let mut state = State::default();
    read_blobs(&files, &mut state)?;
    read_layers(&files, &mut state)?;
    read_rw(&files, &mut state)?;
    read_images(&files, &mut state)?;
    read_names(&files, &mut state)?;
    for problem in state.problems() {
        tracing::error!(problem, "something in the image store cannot be read and is left alone");
    }
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
        reserve: Reserve::keep(files.root().join("reserve")),
        files,
        settings,
        state: Mutex::new(state),
        commit: Mutex::new(()),
        unpacking: Mutex::default(),
        roots: Mutex::default(),
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

/// A layer that cannot be read stays: images and containers may need it.
fn read_layers(files: &Files, state: &mut State) -> Result<()> {
    for name in list(&files.root().join("layers"))? {
        let path = files.root().join("layers").join(&name);
        let Some(id) = Digest::from_hex(&name).map(ChainId) else {
            tracing::warn!(path = %path.display(), "stray folder in the image store");
            continue;
        };
        match read_layer(files, &id) {
            Ok(layer) => _ = state.layers.insert(id, Arc::new(layer)),
            Err(error) => _ = state.damaged.insert(id, error.report()),
        }
    }
    Ok(())
}

pub(super) fn read_layer(files: &Files, id: &ChainId) -> Result<Layer> {
    read_state(&files.layer(id).join("layer.json"))
}

fn read_rw(files: &Files, state: &mut State) -> Result<()> {
    for container in list(&files.root().join("rw"))? {
        match read_parent(files, &container) {
            Some(top) => _ = state.rw.insert(container, top),
            None => _ = state.lost_rw.insert(container),
        }
    }
    Ok(())
}

/// What a read-write layer lies on; `None` if it cannot be read.
pub(super) fn read_parent(files: &Files, container: &str) -> Option<Option<ChainId>> {
    // A link is a single atomic step and says it all: no file to sync on the way to a container.
    let target =
        fs::read_link(files.parent(container)).ok()?.into_os_string().into_string().ok()?;
    match target.as_str() {
        "none" => Some(None),
        top => top.parse().ok().map(Some),
    }
}

fn read_images(files: &Files, state: &mut State) -> Result<()> {
    for name in list(&files.root().join("images"))? {
        let path = files.root().join("images").join(&name);
        let Some(id) = name.strip_suffix(".json").and_then(Digest::from_hex).map(ImageId) else {
            tracing::warn!(path = %path.display(), "stray file in the image store");
            continue;
        };
        let file = match read_state::<RecordFile>(&path) {
            Ok(file) => file,
            // The image does not depend on what is in there.
            Err(error) => {
                let aside = set_aside(&path).map_err(Error::store("set aside", &path))?;
                tracing::error!(image = %id, error = error.report(), kept = %aside.display(), "what was noted about an image is made anew");
                files.write_json(&path, &RecordFile::default())?;
                RecordFile::default()
            }
        };
        let record = read_image(files, state, id, file.clone()).unwrap_or_else(|error| Record {
            id,
            config: Arc::new(ImageConfig { created: noted_at(&path), ..ImageConfig::default() }),
            chain: Vec::new(),
            file,
            damage: Some(error.report()),
        });
        state.images.insert(id, Arc::new(record));
    }
    Ok(())
}

/// When the notes about an image were written: where its configuration does not say how old it is, how long it
/// is here.
fn noted_at(path: &Path) -> Option<String> {
    let time = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
    OffsetDateTime::from(time).format(&Rfc3339).ok()
}

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

/// Names that cannot be read are set aside; images are known by their ids then.
fn read_names(files: &Files, state: &mut State) -> Result<()> {
    let path = files.names();
    let aside = path.with_file_name("names.json.damaged");
    state.lost_names = aside.exists().then_some(aside);
    if !path.exists() {
        return Ok(());
    }
    let names = match read_names_file(&path) {
        Ok(names) => names,
        Err(error) => {
            let aside = set_aside(&path).map_err(Error::store("set aside", &path))?;
            tracing::error!(error = error.report(), kept = %aside.display(), "the names of images cannot be read");
            state.lost_names = Some(aside);
            return Ok(());
        }
    };
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

fn read_names_file(path: &Path) -> Result<BTreeMap<String, ImageId>> {
    read_state::<NamesFile>(path)
        .map(|file| file.names)
        // As it was in format 0.
        .or_else(|error| read_state(path).map_err(|_| error))
}

/// Links to layers that are not there (any more).
fn remove_stray_links(files: &Files, state: &State) -> Result<()> {
    let known: std::collections::HashSet<&str> =
        state.layers.values().map(|layer| layer.link.as_str()).collect();
    for name in list(&files.root().join("l"))? {
        let path = files.link(&name);
        let to_damaged = || {
            let target = fs::read_link(&path).ok()?;
            let layer = Digest::from_hex(target.parent()?.file_name()?.to_str()?).map(ChainId)?;
            state.damaged.get(&layer)
        };
        if !known.contains(name.as_str()) && to_damaged().is_none() {
            fs::remove_file(&path).map_err(Error::store("remove", &path))?;
        }
    }
    Ok(())
}
