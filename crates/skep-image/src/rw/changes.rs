//! `docker diff`: the upper directory against the layers below.
//!
//! Reported as Docker reports: a folder is modified when its own owner or mode changed or something
//! in it was reported; its time alone says nothing. Mount points that the runtime makes are not the
//! container's doing and are left out.

use std::{
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat},
    io::Errno,
};
use skep_sys::files::names;

use crate::{
    image::{Change, ChangeKind},
    tar::pack::{MAX_DEPTH, is_opaque},
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

/// Compares; blocking. The upper directory may be changing.
pub(super) fn between(upper: &Path, lowers: &[PathBuf]) -> io::Result<Vec<Change>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(upper, flags, Mode::empty())?;
    let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
    let mut changes = Vec::new();
    folder(root.as_fd(), Path::new("/"), &lowers, false, 0, &mut changes)?;
    changes.sort();
    Ok(changes)
}

/// `lowers` are the layers in which this folder exists and is not hidden, top first. They never
/// change and hold folders only up to here, so paths are safe there.
fn folder(
    dir: BorrowedFd<'_>,
    path: &Path,
    lowers: &[&Path],
    opaque: bool,
    depth: usize,
    changes: &mut Vec<Change>,
) -> io::Result<()> {
    let names = names(dir)?;
    for name in &names {
        let child = path.join(OsStr::from_bytes(name.as_bytes()));
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let below = if depth < MAX_DEPTH { lookup(lowers, &child) } else { None };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            if below.is_some() {
                push(changes, &child, ChangeKind::Deleted);
            }
            continue;
        }
        let at = changes.len();
        if kind == FileType::Directory && depth < MAX_DEPTH {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(dir, name, flags, Mode::empty()) {
                Ok(fd) => {
                    let opaque = is_opaque(fd.as_fd());
                    let lowers =
                        below.as_ref().map(|below| below.folders.as_slice()).unwrap_or_default();
                    folder(fd.as_fd(), &child, lowers, opaque, depth + 1, changes)?;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(errno.into()),
            }
        }
        match below {
            None if is_mount_point(&child) && changes.len() == at => {}
            None => push(changes, &child, ChangeKind::Added),
            Some(below) if changes.len() > at || differs(&stat, &below.top) => {
                push(changes, &child, ChangeKind::Modified);
            }
            Some(_) => {}
        }
    }
    if opaque {
        for name in names_below(lowers, path)? {
            let there = names.iter().any(|known| known.as_bytes() == name.as_bytes());
            let child = path.join(&name);
            if !there && lookup(lowers, &child).is_some() {
                push(changes, &child, ChangeKind::Deleted);
            }
        }
    }
    Ok(())
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
