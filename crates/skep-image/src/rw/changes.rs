//! `docker diff`: the upper directory against the layers below.
//!
//! Reported as Docker reports: a folder is modified when its own owner or mode changed or something
//! in it was reported; its time alone says nothing. Mount points that the runtime makes are not the
//! container's doing and are left out.

use std::{
    ffi::{CString, OsStr},
    fs::{self, Metadata},
    io,
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Stat};
use skep_sys::files::{Visit, Walk, names};

use crate::{
    image::{Change, ChangeKind},
    tar::pack::{MAX_PATH, is_opaque},
};

/// What Docker makes in its init layer, below the container's own.
const MOUNT_POINTS: [&str; 12] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];

/// Compares; blocking. The upper directory may be changing. What lies deeper than a path can be is not
/// looked at.
pub(super) fn between(upper: &Path, lowers: &[PathBuf]) -> io::Result<Vec<Change>> {
    let lowers = lowers.iter().map(PathBuf::as_path).collect();
    let mut way = vec![Folder { path: "/".into(), lowers, opaque: false, seen: None }];
    let mut changes = Vec::new();
    let mut walk = Walk::new(super::open_folder(upper)?)?;
    while let Some(visit) = walk.step()? {
        let Some(folder) = way.last() else { break };
        match visit {
            Visit::Entry(name, stat) => {
                let path = folder.path.join(OsStr::from_bytes(name.as_bytes()));
                let below = lookup(&folder.lowers, &path);
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
                    if below.is_some() {
                        push(&mut changes, &path, ChangeKind::Deleted);
                    }
                    continue;
                }
                let (below, lowers) = match below {
                    Some(below) => (Some(below.top), below.folders),
                    None => (None, Vec::new()),
                };
                let seen = Seen { path, stat, below, at: changes.len() };
                if kind != FileType::Directory || seen.path.as_os_str().len() > MAX_PATH {
                    seen.judge(&mut changes);
                } else if walk.enter(&name)? {
                    let (path, opaque) = (seen.path.clone(), is_opaque(walk.here()));
                    way.push(Folder { path, lowers, opaque, seen: Some(seen) });
                }
            }
            Visit::Leave => {
                if folder.opaque {
                    folder.hidden(&names(walk.here())?, &mut changes)?;
                }
                if let Some(seen) = way.pop().and_then(|folder| folder.seen) {
                    seen.judge(&mut changes);
                }
            }
        }
    }
    changes.sort();
    Ok(changes)
}

/// A folder on the way down.
struct Folder<'a> {
    path: PathBuf,
    /// The layers in which it exists and is not hidden, top first. They never change and hold folders
    /// only up to here, so paths are safe there.
    lowers: Vec<&'a Path>,
    opaque: bool,
    /// What was seen of itself; judged after its content.
    seen: Option<Seen>,
}

impl Folder<'_> {
    /// What an opaque folder hides.
    fn hidden(&self, names: &[CString], changes: &mut Vec<Change>) -> io::Result<()> {
        for name in names_below(&self.lowers, &self.path)? {
            let there = names.iter().any(|known| known.as_bytes() == name.as_bytes());
            let child = self.path.join(&name);
            if !there && lookup(&self.lowers, &child).is_some() {
                push(changes, &child, ChangeKind::Deleted);
            }
        }
        Ok(())
    }
}

/// Something in the upper directory.
struct Seen {
    path: PathBuf,
    stat: Stat,
    /// What the layers show there.
    below: Option<Metadata>,
    /// How many changes were known before its content was looked at.
    at: usize,
}

impl Seen {
    fn judge(&self, changes: &mut Vec<Change>) {
        let changed_within = changes.len() > self.at;
        match &self.below {
            None if is_mount_point(&self.path) && !changed_within => {}
            None => push(changes, &self.path, ChangeKind::Added),
            Some(below) if changed_within || differs(&self.stat, below) => {
                push(changes, &self.path, ChangeKind::Modified);
            }
            Some(_) => {}
        }
    }
}

/// What layers show under a path.
struct Below<'a> {
    /// What is seen.
    top: Metadata,
    /// If it is a folder: the layers that make it up.
    folders: Vec<&'a Path>,
}

fn lookup<'a>(lowers: &[&'a Path], path: &Path) -> Option<Below<'a>> {
    let mut below: Option<Below<'a>> = None;
    for layer in lowers {
        let place = in_layer(layer, path);
        let Ok(meta) = fs::symlink_metadata(&place) else { continue };
        if !meta.is_dir() {
            if below.is_none() && !is_whiteout(&meta) {
                below = Some(Below { top: meta, folders: Vec::new() });
            }
            break;
        }
        let hides = fs::File::open(&place).is_ok_and(|dir| is_opaque(dir.as_fd()));
        below.get_or_insert_with(|| Below { top: meta, folders: Vec::new() }).folders.push(layer);
        if hides {
            break;
        }
    }
    below
}

fn names_below(lowers: &[&Path], path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for layer in lowers {
        for entry in fs::read_dir(in_layer(layer, path))? {
            names.push(entry?.file_name());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn in_layer(layer: &Path, path: &Path) -> PathBuf {
    layer.join(path.strip_prefix("/").unwrap_or(path))
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn differs(upper: &Stat, lower: &Metadata) -> bool {
    let folder = FileType::from_raw_mode(upper.st_mode) == FileType::Directory;
    upper.st_mode != lower.mode()
        || (upper.st_uid, upper.st_gid) != (lower.uid(), lower.gid())
        || upper.st_rdev != lower.rdev()
        || (!folder
            && (
                i128::from(upper.st_mtime),
                i128::from(upper.st_mtime_nsec),
                i128::from(upper.st_size),
            ) != (
                i128::from(lower.mtime()),
                i128::from(lower.mtime_nsec()),
                i128::from(lower.size()),
            ))
}

fn is_mount_point(path: &Path) -> bool {
    MOUNT_POINTS.iter().any(|point| path == Path::new(point))
}

fn push(changes: &mut Vec<Change>, path: &Path, kind: ChangeKind) {
    changes.push(Change { path: path.to_string_lossy().into_owned(), kind });
}
