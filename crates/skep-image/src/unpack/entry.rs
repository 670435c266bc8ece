//! One member onto the disk.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, RawMode, Uid, XattrFlags, fchmod, fchown, fsetxattr,
        ftruncate, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, symlinkat,
    },
    io::Errno,
};

use super::{
    error::UnpackError,
    tree::{Place, Tree, entry as invalid, failed},
    whiteout,
};
use crate::tar::{Entry, EntryKind, Sparse};

const COPY: usize = 128 << 10;

/// Makes one member. Returns the bytes of file content written.
pub(super) fn make(
    tree: &mut Tree<'_>,
    entry: &Entry,
    data: &mut dyn Read,
) -> Result<u64, UnpackError> {
    let path = clean(&entry.path)?;
    if path.as_os_str().is_empty() && tree.live {
        return Ok(0);
    }
    let path = tree.base().join(path);
    if tree.options.whiteouts
        && let Some(whiteout) = whiteout::of(&path)?
    {
        return whiteout::make(tree, &path, whiteout).map(|()| 0);
    }
    if path.as_os_str().is_empty() {
        if entry.kind == EntryKind::Directory {
            let root = tree.root();
            settle(tree, &root, entry)?;
            tree.later(&path, entry.mtime);
            return Ok(0);
        }
        return Err(invalid(Path::new("/"), "only a folder can be the root"));
    }
    let place = tree.place(&path)?;
    let mut written = 0;
    match &entry.kind {
        EntryKind::Directory => folder(tree, &place, entry)?,
        EntryKind::File(sparse) => {
            if tree.live && place.is_mount_point() {
                let out = place.rewrite()?.into();
                return content(tree, &place, entry, sparse.as_ref(), data, &out);
            }
            written = file(tree, &place, entry, sparse.as_ref(), data)?;
        }
        EntryKind::HardLink(to) => {
            let target = tree.existing(&tree.base().join(clean(to)?))?;
            let link =
                || linkat(&*target.dir, &target.name, &*place.dir, &place.name, AtFlags::empty());
            if same(&target, &place) {
                return Ok(0);
            }
            fresh(tree, &place, "link", link)?;
            // Owner, mode and times are those of the file it links to.
            return Ok(0);
        }
        EntryKind::Symlink(to) => {
            fresh(tree, &place, "make symbolic link", || {
                symlinkat(OsStr::from_bytes(to), &*place.dir, &place.name)
            })?;
            tree.forget();
            settle(tree, &place, entry)?;
        }
        EntryKind::Char(major, minor) => {
            node(tree, &place, entry, FileType::CharacterDevice, (*major, *minor))?
        }
        EntryKind::Block(major, minor) => {
            node(tree, &place, entry, FileType::BlockDevice, (*major, *minor))?
        }
        EntryKind::Fifo => node(tree, &place, entry, FileType::Fifo, (0, 0))?,
    }
    match entry.kind {
        EntryKind::Directory => tree.later(&path, entry.mtime),
        _ => place.set_mtime(entry.mtime)?,
    }
    Ok(written)
}

/// A relative path of plain components. Absolute names are taken below the target, `..` is resolved
/// within the name; climbing above the top is refused.
pub(super) fn clean(raw: &[u8]) -> Result<PathBuf, UnpackError> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(raw)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => {
                return Err(UnpackError::Escape(String::from_utf8_lossy(raw).into_owned()));
            }
            _ => {}
        }
    }
    Ok(path)
}

fn folder(tree: &mut Tree<'_>, place: &Place, entry: &Entry) -> Result<(), UnpackError> {
    let mode = Mode::from_raw_mode(0o700);
    match mkdirat(&*place.dir, &place.name, mode) {
        Ok(()) => {}
        // Folders merge: a member may come again with other attributes.
        Err(Errno::EXIST) if place.is_folder() => {}
        Err(Errno::EXIST) => {
            if tree.options.keep_kind {
                return Err(invalid(&place.path, "cannot overwrite non-directory with directory"));
            }
            let hidden = tree.options.whiteouts && whiteout::is_one(place);
            place.clear()?;
            tree.forget();
            mkdirat(&*place.dir, &place.name, mode).map_err(failed("make folder", &place.path))?;
            if hidden {
                whiteout::set_opaque(place)?;
            }
        }
        Err(errno) => return Err(failed("make folder", &place.path)(errno)),
    }
    settle(tree, place, entry)
}

fn file(
    tree: &mut Tree<'_>,
    place: &Place,
    entry: &Entry,
    sparse: Option<&Sparse>,
    data: &mut dyn Read,
) -> Result<u64, UnpackError> {
    tree.reserve(entry.size)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = fresh(tree, place, "create", || {
        openat(&*place.dir, &place.name, flags, Mode::from_raw_mode(0o600))
    })?;
    let out = std::fs::File::from(fd);
    content(tree, place, entry, sparse, data, &out)?;
    let (uid, gid) = tree.options.owner.unwrap_or((entry.uid, entry.gid));
    // Order matters: changing the owner clears setuid bits and capabilities.
    fchown(&out, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(failed("change the owner of", &place.path))?;
    fchmod(&out, Mode::from_raw_mode(entry.mode))
        .map_err(failed("change the mode of", &place.path))?;
    for (name, value) in wanted_xattrs(entry) {
        supported(fsetxattr(&out, name, value, XattrFlags::empty()), place, name)?;
    }
    Ok(entry.size)
}

/// A file's data, in its place.
fn content(
    tree: &mut Tree<'_>,
    place: &Place,
    entry: &Entry,
    sparse: Option<&Sparse>,
    data: &mut dyn Read,
    out: &std::fs::File,
) -> Result<u64, UnpackError> {
    let io = |action| {
        let path = place.path.clone();
        move |source: io::Error| match source.raw_os_error() {
            Some(_) => UnpackError::Io { action, path, source },
            None => UnpackError::Read(source),
        }
    };
    match sparse {
        None => copy(data, out, 0, entry.size, tree).map_err(|e| e.into_unpack(io("write")))?,
        Some(sparse) => {
            ftruncate(out, sparse.size).map_err(failed("resize", &place.path))?;
            for (offset, len) in &sparse.segments {
                copy(data, out, *offset, *len, tree).map_err(|e| e.into_unpack(io("write")))?;
            }
        }
    }
    Ok(entry.size)
}

enum CopyError {
    Io(io::Error),
    Unpack(UnpackError),
}

impl CopyError {
    fn into_unpack(self, io: impl FnOnce(io::Error) -> UnpackError) -> UnpackError {
        match self {
            Self::Io(error) => io(error),
            Self::Unpack(error) => error,
        }
    }
}

fn copy(
    data: &mut dyn Read,
    out: &std::fs::File,
    offset: u64,
    len: u64,
    tree: &mut Tree<'_>,
) -> Result<(), CopyError> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; COPY.min(usize::try_from(len).unwrap_or(COPY))];
    let mut done = 0;
    while done < len {
        let want = buffer.len().min(usize::try_from(len - done).unwrap_or(usize::MAX));
        let n = match data.read(&mut buffer[..want]) {
            Ok(0) => {
                return Err(CopyError::Io(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the data ends early",
                )));
            }
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(CopyError::Io(e)),
        };
        out.write_all_at(&buffer[..n], offset + done).map_err(CopyError::Io)?;
        done += n as u64;
        if done % (COPY as u64 * 256) == 0 {
            tree.reserve(0).map_err(CopyError::Unpack)?;
        }
    }
    Ok(())
}

fn node(
    tree: &mut Tree<'_>,
    place: &Place,
    entry: &Entry,
    kind: FileType,
    (major, minor): (u32, u32),
) -> Result<(), UnpackError> {
    let make = || {
        mknodat(&*place.dir, &place.name, kind, Mode::from_raw_mode(0o600), makedev(major, minor))
    };
    fresh(tree, place, "make node", make)?;
    settle(tree, place, entry)
}

/// Makes something new, replacing what is there.
fn fresh<T>(
    tree: &mut Tree<'_>,
    place: &Place,
    action: &'static str,
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, UnpackError> {
    match make() {
        Ok(made) => return Ok(made),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(action, &place.path)(errno)),
    }
    if tree.options.keep_kind && place.is_folder() {
        return Err(invalid(&place.path, "cannot overwrite directory with non-directory"));
    }
    place.clear()?;
    tree.forget();
    make().map_err(failed(action, &place.path))
}

/// Owner, mode and extended attributes of everything but files and hard links.
fn settle(tree: &Tree<'_>, place: &Place, entry: &Entry) -> Result<(), UnpackError> {
    let (uid, gid) = tree.options.owner.unwrap_or((entry.uid, entry.gid));
    place.chown(uid, gid)?;
    if !matches!(entry.kind, EntryKind::Symlink(_)) {
        place.chmod(entry.mode as RawMode)?;
    }
    for (name, value) in wanted_xattrs(entry) {
        supported(lsetxattr(place.by_descriptor(), name, value, XattrFlags::empty()), place, name)?;
    }
    Ok(())
}

/// Attributes that belong to content. `trusted.overlay.*` from outside would let a layer redirect
/// look-ups to other folders; `security.selinux` and the like belong to the host.
fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&str, &[u8])> {
    entry.xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).filter(
        |(name, _)| {
            name.starts_with("user.")
                || matches!(
                    *name,
                    "security.capability" | "system.posix_acl_access" | "system.posix_acl_default"
                )
        },
    )
}

/// A file system without an attribute's family is no reason to refuse an image.
fn supported(result: Result<(), Errno>, place: &Place, name: &str) -> Result<(), UnpackError> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) if name != "security.capability" => {
            tracing::debug!(path = %place.path.display(), attribute = name, "extended attribute not supported here");
            Ok(())
        }
        other => other.map_err(failed("set an extended attribute of", &place.path)),
    }
}

fn same(a: &Place, b: &Place) -> bool {
    match (a.stat(), b.stat()) {
        (Some(a), Some(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}
