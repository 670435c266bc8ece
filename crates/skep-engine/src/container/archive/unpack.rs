//! A tar into a folder of a container's root.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use skep_container::spec::rootfs;
use tar::{Archive, Entry, EntryType};

use super::is_dir;
use crate::error::{EngineError, Result};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Unpacks into `folder` below `root`. With `owner` everything belongs to it, else to whom the archive
/// says. With `keep_kinds` a folder never replaces something else, nor the other way round.
///
/// # Errors
/// `Invalid` for malformed archives and forbidden replacements; file errors.
pub fn into(
    root: &Path,
    folder: &str,
    source: impl Read,
    keep_kinds: bool,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let mut source = BufReader::new(source);
    let head =
        source.fill_buf().map_err(|e| EngineError::system("could not read the archive", e))?;
    if head.starts_with(&GZIP) {
        return Unpacker { root, folder, keep_kinds, owner }
            .all(flate2::bufread::MultiGzDecoder::new(source));
    }
    Unpacker { root, folder, keep_kinds, owner }.all(source)
}

struct Unpacker<'a> {
    root: &'a Path,
    folder: &'a str,
    keep_kinds: bool,
    owner: Option<(u32, u32)>,
}

impl Unpacker<'_> {
    fn all(&self, source: impl Read) -> Result<()> {
        let bad = |e: io::Error| EngineError::Invalid(format!("invalid tar archive: {e}"));
        let mut archive = Archive::new(source);
        // Folders get their times last, after their contents.
        let mut folders: Vec<(PathBuf, i64)> = Vec::new();
        for entry in archive.entries().map_err(bad)? {
            let mut entry = entry.map_err(bad)?;
            let name = entry.path().map_err(bad)?.into_owned();
            let Some(path) = self.place_of(&name)? else { continue };
            let kind = entry.header().entry_type();
            let mtime =
                entry.header().mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
            let failed =
                |source| EngineError::File { action: "unpack", path: name.clone(), source };
            match self.entry(&mut entry, kind, &path) {
                Ok(()) => {}
                Err(Failure::Io(source)) => return Err(failed(source)),
                Err(Failure::Refused(text)) => return Err(EngineError::Invalid(text)),
            }
            if kind == EntryType::Directory {
                folders.push((path, mtime));
            }
        }
        for (path, mtime) in folders.into_iter().rev() {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                let done = self.open_folder(parent).and_then(|dir| touch(&dir, name, mtime));
                done.map_err(EngineError::file("set the time of", &path))?;
            }
        }
        Ok(())
    }

    /// Where an entry goes, as a path below the root; `None` for the folder itself.
    fn place_of(&self, name: &Path) -> Result<Option<PathBuf>> {
        let mut path = PathBuf::from(self.folder);
        let mut any = false;
        for part in name.components() {
            match part {
                Component::Normal(part) => {
                    any = true;
                    path.push(part);
                }
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(EngineError::Invalid(format!(
                        "invalid tar archive: {:?} leads out of it",
                        name.display()
                    )));
                }
            }
        }
        Ok(any.then_some(path))
    }

    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        rootfs::open(self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// The folder of an entry; made if missing. A dangling link in its place is an error.
    fn folder_of(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        rootfs::make_dir(self.root, path, uid, gid)?;
        self.open_folder(path)
    }

    fn entry(
        &self,
        entry: &mut Entry<'_, impl Read>,
        kind: EntryType,
        path: &Path,
    ) -> Result<(), Failure> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let dir = self.folder_of(folder)?;
        let is_folder = kind == EntryType::Directory;
        self.clear(&dir, name, is_folder)?;
        let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
        match kind {
            EntryType::Directory => match mkdirat(&dir, name, Mode::from_bits_truncate(0o700)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e.into()),
            },
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_TRUNC
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let mut file =
                    File::from(openat(&dir, name, flags, Mode::from_bits_truncate(0o600))?);
                io::copy(entry, &mut file)?;
            }
            EntryType::Symlink => {
                let target = link_name(entry)?;
                symlinkat(target.as_os_str(), &dir, name)?;
            }
            EntryType::Link => {
                let target = link_name(entry)?;
                let target = self.place_of(&target).map_err(|e| Failure::Refused(e.to_string()))?;
                let target = target.ok_or_else(|| {
                    Failure::Refused("invalid tar archive: link to nothing".into())
                })?;
                let (Some(from), Some(from_name)) = (target.parent(), target.file_name()) else {
                    return Ok(());
                };
                linkat(self.open_folder(from)?, from_name, &dir, name, AtFlags::empty())?;
                return Ok(());
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let number = |n: io::Result<Option<u32>>| u64::from(n.ok().flatten().unwrap_or(0));
                let device = makedev(
                    number(entry.header().device_major()),
                    number(entry.header().device_minor()),
                );
                let node = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                mknodat(&dir, name, node, Mode::from_bits_truncate(0o600), device)?;
            }
            // Headers without a file of their own.
            _ => return Ok(()),
        }
        let id = |n: io::Result<u64>| n.ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let (uid, gid) = self.owner.unwrap_or((id(entry.header().uid()), id(entry.header().gid())));
        fchownat(
            &dir,
            name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        if kind != EntryType::Symlink {
            // After the owner: a change of owner clears the set-id bits. The name is ours: made above,
            // not a link.
            fchmodat(&dir, name, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?;
        }
        if !is_folder {
            let mtime =
                entry.header().mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
            touch(&dir, name, mtime)?;
        }
        Ok(())
    }

    /// Makes room for an entry.
    fn clear(&self, dir: &OwnedFd, name: &OsStr, is_folder: bool) -> Result<(), Failure> {
        let there = match fstatat(dir.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => is_dir(&stat),
            Err(Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let shown = name.to_string_lossy();
        match (there, is_folder) {
            (true, true) => Ok(()),
            (true, false) if self.keep_kinds => Err(Failure::Refused(format!(
                "cannot overwrite directory {shown:?} with non-directory {shown:?}"
            ))),
            (false, true) if self.keep_kinds => Err(Failure::Refused(format!(
                "cannot overwrite non-directory {shown:?} with directory {shown:?}"
            ))),
            (true, false) => Ok(remove_tree(dir, name)?),
            (false, _) => match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
                // A mount point such as /etc/hosts: its content is replaced instead.
                Ok(()) | Err(Errno::ENOENT | Errno::EBUSY) => Ok(()),
                Err(e) => Err(e.into()),
            },
        }
    }
}

/// Why an entry could not be unpacked.
enum Failure {
    Io(io::Error),
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

fn link_name(entry: &Entry<'_, impl Read>) -> Result<PathBuf, Failure> {
    match entry.link_name()? {
        Some(target) => Ok(target.into_owned()),
        None => Err(Failure::Refused("invalid tar archive: a link without a target".into())),
    }
}

fn touch(dir: &OwnedFd, name: &OsStr, mtime: i64) -> io::Result<()> {
    let time = TimeSpec::new(mtime, 0);
    Ok(utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// Removes a folder and all in it, following nothing.
fn remove_tree(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(fd.try_clone()?)?.iter() {
        let entry = entry?;
        let child = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if child != "." && child != ".." {
            names.push(child);
        }
    }
    for child in names {
        let stat = fstatat(fd.as_fd(), child.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if is_dir(&stat) {
            remove_tree(&fd, &child)?;
        } else {
            unlinkat(&fd, child.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir)?)
}
