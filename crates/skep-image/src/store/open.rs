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
    files::{Files, is_there, list, read_state},
    image::read_image,
    recover::recover_images,
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
    // The folder is made when it is first needed.
    let pending = list(&files.root().join("pending")).unwrap_or_default();
    state.pending = pending.iter().filter_map(|name| Digest::from_hex(name)).collect();
    read_blobs(&files, &mut state)?;
    read_layers(&files, &mut state)?;
    read_rw(&files, &mut state)?;
    read_images(&files, &mut state)?;
    recover_images(&files, &mut state);
    read_names(&files, &mut state)?;
    let swept = state.sweep(&files);
    for problem in state.problems() {
        tracing::error!(problem, "something in the image store is left alone");
    }
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
        // One that is no file is as good as missing, and in nobody's way but its own image's.
        match (Digest::from_hex(&name), fs::metadata(&path)) {
            (Some(digest), Ok(found)) if found.is_file() => {
                _ = state.blobs.insert(digest, found.len())
            }
            (_, Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "cannot look at a file of the image store");
            }
            _ => tracing::warn!(path = %path.display(), "stray file in the image store"),
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
    let layer: Layer = read_state(&files.layer(id).join("layer.json"))?;
    files.ensure_link(id, &layer.link)?;
    Ok(layer)
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
    let mut removed = Vec::new();
    for name in list(&files.root().join("images"))? {
        let path = files.root().join("images").join(&name);
        if let Some(id) = name.strip_suffix(".removed").and_then(Digest::from_hex).map(ImageId) {
            removed.push(id);
            continue;
        }
        let Some(id) = name.strip_suffix(".json").and_then(Digest::from_hex).map(ImageId) else {
            tracing::warn!(path = %path.display(), "stray file in the image store");
            continue;
        };
        let file = match read_state::<RecordFile>(&path) {
            Ok(file) => file,
            // The image does not depend on what is in there.
            Err(error) => {
                state.unread_notes.insert(id, error.report());
                RecordFile::default()
            }
        };
        let record = read_record(files, state, id, file, &path);
        state.images.insert(id, Arc::new(record));
    }
    for id in removed {
        let note = files.removed(&id);
        let file = read_state::<RecordFile>(&note).unwrap_or_default();
        let content = state.content_of(files, &read_record(files, state, id, file, &note));
        state.removed.insert(id, content);
    }
    Ok(())
}

/// When the notes about an image were written: where its configuration does not say how old it is, how long it
/// is here.
fn noted_at(path: &Path) -> Option<String> {
    let time = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
    OffsetDateTime::from(time).format(&Rfc3339).ok()
}

/// Of one that is damaged nothing is known but its id.
fn read_record(files: &Files, state: &State, id: ImageId, file: RecordFile, note: &Path) -> Record {
    read_image(files, state, id, file.clone()).unwrap_or_else(|error| Record {
        id,
        config: Arc::new(ImageConfig { created: noted_at(note), ..ImageConfig::default() }),
        chain: Vec::new(),
        file,
        damage: Some(error.report()),
    })
}

/// Names that cannot be read are set aside; images are known by their ids then.
fn read_names(files: &Files, state: &mut State) -> Result<()> {
    let path = files.names();
    let aside = path.with_file_name("names.json.damaged");
    state.lost_names = is_there(&aside).then_some(aside);
    if !is_there(&path) {
        return Ok(());
    }
    let names = match read_names_file(&path) {
        Ok(names) => names,
        Err(error) => {
            tracing::error!(error = error.report(), "the names of images cannot be read");
            let aside = set_aside(&path).inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "cannot set aside the names of images");
            });
            state.names_in_the_way = aside.is_err();
            state.lost_names = Some(aside.unwrap_or(path));
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

/// Removes links to layers that are not there (any more).
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
        if !known.contains(name.as_str())
            && to_damaged().is_none()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "stray name in the image store");
        }
    }
    Ok(())
}
