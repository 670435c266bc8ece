//! The target folder, reached by descriptor only.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags,
        Timespec, Timestamps, Uid, chownat, mkdirat, open, openat2, statat, statx, unlinkat,
        utimensat,
    },
    io::Errno,
};

use skep_sys::files::{remove_tree_at, reopen};

use super::{UnpackOptions, error::UnpackError};
use crate::space;

pub(super) struct Tree<'a> {
    root: Rc<OwnedFd>,
    /// Where in the root everything goes; empty for the root itself.
    base: PathBuf,
    /// Somebody else uses the root: things may be mounted in it.
    pub(super) live: bool,
    pub(super) options: &'a UnpackOptions,
    /// The folder of the last member: tar streams list folder by folder.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Times of folders, set at the end because making their content changes them.
    times: Vec<(PathBuf, (i64, u32))>,
    unchecked: u64,
}

/// A member's place: an open folder and a single name in it.
pub(super) struct Place {
    pub(super) dir: Rc<OwnedFd>,
    pub(super) name: CString,
    pub(super) path: PathBuf,
}

impl<'a> Tree<'a> {
    pub(super) fn open(target: &Path, options: &'a UnpackOptions) -> Result<Self, UnpackError> {
        let root =
            open(target, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
                .map_err(failed("open", target))?;
        Self::new(root, Path::new(""), false, options)
    }

    pub(super) fn new(
        root: OwnedFd,
        base: &Path,
        live: bool,
        options: &'a UnpackOptions,
    ) -> Result<Self, UnpackError> {
        let tree = Self {
            root: Rc::new(root),
            base: base.into(),
            live,
            options,
            last: None,
            times: Vec::new(),
            unchecked: 0,
        };
        tree.require_space(0)?;
        Ok(tree)
    }

    /// The folder that everything goes into, relative to the root.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// The target itself.
    pub(super) fn root(&self) -> Place {
        Place { dir: Rc::clone(&self.root), name: CString::from(c"."), path: PathBuf::from("/") }
    }

    /// Where `path` is to be made; missing folders are made on the way, as root's, mode 0755.
    pub(super) fn place(&mut self, path: &Path) -> Result<Place, UnpackError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(self.root());
        };
        let dir = self.folder(parent, true)?;
        Ok(Place { dir, name: c_name(path, name)?, path: path.into() })
    }

    /// Where `path` is, for the target of a hard link.
    pub(super) fn existing(&mut self, path: &Path) -> Result<Place, UnpackError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(self.root());
        };
        let dir = self.folder(parent, false)?;
        Ok(Place { dir, name: c_name(path, name)?, path: path.into() })
    }

    /// Call after anything was removed or a symlink was made.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    pub(super) fn later(&mut self, path: &Path, mtime: (i64, u32)) {
        self.times.push((path.into(), mtime));
    }

    fn folder(&mut self, path: &Path, make: bool) -> Result<Rc<OwnedFd>, UnpackError> {
        if path.as_os_str().is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, dir)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.open_folder(path) {
            Err(Errno::NOENT) if make => {
                let parent = self.folder(path.parent().unwrap_or(Path::new("")), true)?;
                let name = path.file_name().unwrap_or_default();
                self.make_folder(&Place {
                    dir: parent,
                    name: c_name(path, name)?,
                    path: path.into(),
                })?;
                self.open_folder(path)
            }
            // A file of this layer, or a whiteout of it, where a folder is needed.
            Err(Errno::NOTDIR) if make => return Err(entry(path, "a parent is not a folder")),
            other => other,
        };
        let dir = Rc::new(dir.map_err(failed("open", path))?);
        self.last = Some((path.into(), Rc::clone(&dir)));
        Ok(dir)
    }

    fn make_folder(&self, place: &Place) -> Result<(), UnpackError> {
        mkdirat(&*place.dir, &place.name, Mode::from_raw_mode(0o755))
            .map_err(failed("make folder", &place.path))?;
        place.chmod(0o755)?;
        if let Some((uid, gid)) = self.options.owner {
            place.chown(uid, gid)?;
        }
        Ok(())
    }

    fn open_folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&*self.root, path, flags, Mode::empty(), resolve) {
                // A rename elsewhere raced with the resolution; only a retry helps.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Counts bytes about to be written and refuses them when the disk gets full.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.unchecked += bytes;
        if self.unchecked < space::STEP {
            return Ok(());
        }
        self.unchecked = 0;
        self.require_space(bytes)
    }

    fn require_space(&self, bytes: u64) -> Result<(), UnpackError> {
        let room = space::check(&*self.root, bytes, &self.options.limits);
        Ok(room.map_err(failed("look at the free space of", "/"))??)
    }

    /// Sets the times of folders, last made first.
    pub(super) fn finish(mut self) -> Result<(), UnpackError> {
        self.last = None;
        for (path, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            let place = match self.existing(&path) {
                Ok(place) => place,
                // Replaced by a later member.
                Err(UnpackError::Io { .. } | UnpackError::Entry { .. }) => continue,
                Err(other) => return Err(other),
            };
            match place.stat() {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    place.set_mtime(mtime)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Place {
    pub(super) fn stat(&self) -> Option<Stat> {
        statat(&*self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    pub(super) fn is_folder(&self) -> bool {
        self.stat().is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    pub(super) fn chown(&self, uid: u32, gid: u32) -> Result<(), UnpackError> {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&*self.dir, &self.name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("change the owner of", &self.path))
    }

    /// Fails on symlinks. `fchmodat` has no flag against following them before Linux 6.6, so the
    /// object is pinned by a descriptor first: a live container may be swapping names.
    pub(super) fn chmod(&self, mode: u32) -> Result<(), UnpackError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pinned = rustix::fs::openat(&*self.dir, &self.name, flags, Mode::empty())
            .map_err(failed("open", &self.path))?;
        let stat = rustix::fs::fstat(&pinned).map_err(failed("look at", &self.path))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return Err(entry(&self.path, "it was replaced by a symbolic link"));
        }
        rustix::fs::chmod(
            format!("/proc/self/fd/{}", pinned.as_raw_fd()),
            Mode::from_raw_mode(mode),
        )
        .map_err(failed("change the mode of", &self.path))
    }

    pub(super) fn set_mtime(&self, (seconds, nanos): (i64, u32)) -> Result<(), UnpackError> {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(&*self.dir, &self.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the time of", &self.path))
    }

    /// A path for the few calls that take no descriptor. The name is one component and the folder
    /// is held open, so nothing can be redirected; use only with calls that do not follow links.
    pub(super) fn by_descriptor(&self) -> PathBuf {
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_fd().as_raw_fd()));
        path.push(OsStr::from_bytes(self.name.as_bytes()));
        path
    }

    /// Whether something is mounted there, in whichever mount namespace. The kernel would let a process of
    /// another namespace take the name away, and the mount with it.
    pub(super) fn is_mount_point(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        statx(&*self.dir, &self.name, flags, StatxFlags::TYPE)
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    /// Opens a regular file to write it anew.
    pub(super) fn rewrite(&self) -> Result<OwnedFd, UnpackError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pinned = rustix::fs::openat(&*self.dir, &self.name, flags, Mode::empty())
            .map_err(failed("open", &self.path))?;
        match reopen(&pinned, OFlags::WRONLY | OFlags::TRUNC) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(failed("replace", &self.path)(Errno::BUSY)),
            Err(source) => Err(UnpackError::Io { action: "open", path: self.path.clone(), source }),
        }
    }

    /// Removes whatever is there, folders with their content.
    ///
    /// # Errors
    /// `EBUSY` for a mount point.
    pub(super) fn clear(&self) -> Result<(), UnpackError> {
        if self.is_mount_point() {
            return Err(failed("replace", &self.path)(Errno::BUSY));
        }
        let flags = if self.is_folder() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&*self.dir, &self.name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY) => {
                remove_tree_at(self.dir.as_fd(), &self.name).map_err(|source| UnpackError::Io {
                    action: "replace",
                    path: self.path.clone(),
                    source,
                })
            }
            Err(errno) => Err(failed("replace", &self.path)(errno)),
        }
    }
}

fn c_name(path: &Path, name: &OsStr) -> Result<CString, UnpackError> {
    CString::new(name.as_bytes()).map_err(|_| entry(path, "NUL in a name"))
}

pub(super) fn entry(path: &Path, reason: &'static str) -> UnpackError {
    UnpackError::Entry { path: path.to_string_lossy().into_owned(), reason }
}

pub(super) fn failed(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(Errno) -> UnpackError {
    let path = path.into();
    move |errno| match errno {
        Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::NOENT | Errno::ISDIR => {
            UnpackError::Entry {
                path: path.to_string_lossy().into_owned(),
                reason: match errno {
                    Errno::LOOP => "too many symbolic links",
                    Errno::NOTDIR => "a parent is not a folder",
                    Errno::NAMETOOLONG => "the name is too long",
                    Errno::ISDIR => "it is a folder",
                    _ => "a parent or link target does not exist",
                },
            }
        }
        errno => UnpackError::Io { action, path, source: io::Error::from(errno) },
    }
}
