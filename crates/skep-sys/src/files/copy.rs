//! Copying trees with all that makes them up.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawMode, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmod, chownat, copy_file_range, fstat, ftruncate, getxattr, linkat, listxattr,
    mkdirat, mknodat, openat, readlinkat, seek, setxattr, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::beneath::{Beneath, open_beneath, open_file};
use super::walk::{Descent, Visit, Walk, identity, open_folder};

/// The kernel's bound of an attribute's value, and of all names together.
const ATTRIBUTE: usize = 64 << 10;
const PIECE: usize = 128 << 10;

/// Copies what is in the folder `from` into the folder `to`, and `from`'s own attributes: owners, modes,
/// times, extended attributes, links (several names of one file stay one file), holes, FIFOs, devices and
/// sockets. Trees may be of any depth, names of any bytes; nothing is followed, and nothing outside of `to`
/// is touched, also while somebody exchanges names in either.
///
/// # Errors
/// Those of reading and writing, `EEXIST` where `to` has something of the name. What was copied stays.
pub fn copy_tree(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let mut copier = Copier {
        to: Descent::new(to)?,
        path: PathBuf::new(),
        links: HashMap::new(),
        names: vec![0; ATTRIBUTE],
        value: vec![0; ATTRIBUTE],
    };
    let mut walk = Walk::new(from)?;
    while let Some(visit) = walk.step()? {
        match visit {
            Visit::Entry(name, stat) if kind(&stat) == FileType::Directory => {
                mkdirat(copier.to.here(), &name, Mode::from_raw_mode(0o700))?;
                if !walk.enter(&name)? {
                    unlinkat(copier.to.here(), &name, AtFlags::REMOVEDIR)?;
                    continue;
                }
                let folder = open_folder(copier.to.here(), &name)?;
                copier.to.down(folder)?;
                copier.path.push(os(&name));
            }
            Visit::Entry(name, stat) => copier.entry(walk.here(), &name, &stat)?,
            Visit::Leave => {
                // At the end: making its content changes its times, and a default access list would be
                // inherited.
                let stat = fstat(walk.here())?;
                copier.attributes(walk.here(), None, &stat)?;
                if walk.depth() > 0 {
                    copier.to.up()?;
                    copier.path.pop();
                }
            }
        }
    }
    Ok(())
}

struct Copier {
    /// The folder that is being filled.
    to: Descent,
    /// Its path below the target.
    path: PathBuf,
    /// The first copy of what has several names: its path and identity.
    links: HashMap<(u64, u64), (PathBuf, (u64, u64))>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Copier {
    /// Copies anything but a folder.
    fn entry(&mut self, from: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
        let id = (stat.st_dev, stat.st_ino);
        let several = stat.st_nlink > 1;
        if several && self.link(id, name)? {
            return Ok(());
        }
        let made = match kind(stat) {
            FileType::RegularFile => self.file(from, name)?,
            FileType::Symlink => {
                let Some(target) = there(readlinkat(from, name, Vec::new()))? else {
                    return Ok(());
                };
                symlinkat(&target, self.to.here(), name)?;
                self.named(from, name, stat)?
            }
            FileType::Unknown => None,
            kind => {
                let mode = Mode::from_raw_mode(0o600);
                mknodat(self.to.here(), name, kind, mode, stat.st_rdev)?;
                self.named(from, name, stat)?
            }
        };
        if let Some(made) = made.filter(|_| several) {
            self.links.insert(id, (self.path.join(os(name)), made));
        }
        Ok(())
    }

    /// Gives the first copy of a file another name. `false` if there is none, or it is not there any more,
    /// or its path is longer than the kernel takes.
    fn link(&self, id: (u64, u64), name: &CStr) -> io::Result<bool> {
        let Some((path, made)) = self.links.get(&id) else { return Ok(false) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Ok(first) = open_beneath(self.to.top(), path, flags, Beneath::Refused) else {
            return Ok(false);
        };
        if identity(&first)? != *made {
            return Ok(false);
        }
        linkat(CWD, by_descriptor(&first), self.to.here(), name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(true)
    }

    fn file(&mut self, from: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<(u64, u64)>> {
        let Some(source) = open_file(from, name)? else { return Ok(None) };
        let stat = fstat(&source)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(self.to.here(), name, flags, Mode::from_raw_mode(0o600))?;
        let (source, target) = (File::from(source), File::from(target));
        content(&source, &target, stat.st_size.try_into().unwrap_or(0))?;
        self.attributes(source.as_fd(), Some(target.as_fd()), &stat)?;
        identity(&target).map(Some)
    }

    /// The attributes of what cannot be opened. `None` if it was replaced by something else.
    fn named(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> io::Result<Option<(u64, u64)>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some(source) = there(openat(from, name, flags, Mode::empty()))? else {
            return Ok(None);
        };
        let Some(target) = there(openat(self.to.here(), name, flags, Mode::empty()))? else {
            return Ok(None);
        };
        let made = fstat(&target)?;
        if (kind(&made), made.st_rdev) != (kind(stat), stat.st_rdev) {
            return Ok(None);
        }
        self.attributes(source.as_fd(), Some(target.as_fd()), stat)?;
        identity(&target).map(Some)
    }

    /// Gives `to`, or the folder that was filled, the attributes of `from`.
    fn attributes(
        &mut self,
        from: BorrowedFd<'_>,
        to: Option<BorrowedFd<'_>>,
        stat: &Stat,
    ) -> io::Result<()> {
        let to = to.unwrap_or(self.to.here());
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        chownat(to, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
        let path = by_descriptor(to);
        if kind(stat) != FileType::Symlink {
            // After the owner: a change of owner clears the set-id bits.
            chmod(&path, Mode::from_raw_mode(stat.st_mode as RawMode & 0o7777))?;
        }
        // After the content and the owner: both drop file capabilities.
        self.extended(&by_descriptor(from), &path)?;
        let time = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        Ok(utimensat(CWD, &path, &times, AtFlags::empty())?)
    }

    /// A file system that lacks a family of attributes is no reason to fail.
    fn extended(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let length = match listxattr(from, &mut self.names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for name in self.names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            // What they say holds for one place in one overlay only.
            if name.starts_with(b"trusted.overlay.") {
                continue;
            }
            let name = OsStr::from_bytes(name);
            let length = match getxattr(from, name, &mut self.value[..]) {
                Ok(length) => length,
                Err(Errno::NODATA) => continue,
                Err(errno) => return Err(errno.into()),
            };
            match setxattr(to, name, &self.value[..length], XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// A path of what is open, for calls that take no descriptor (or none without read access).
fn by_descriptor(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// What vanished or was replaced meanwhile is left out.
fn there<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::LOOP | Errno::INVAL | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Copies `size` bytes but holes.
fn content(from: &File, to: &File, size: u64) -> io::Result<()> {
    ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(errno) => return Err(errno.into()),
        };
        let end = match seek(from, SeekFrom::Hole(data)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => size,
            Err(errno) => return Err(errno.into()),
        };
        piece(from, to, data, end)?;
        at = end;
    }
    Ok(())
}

fn piece(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    while at < end {
        let (mut read, mut write) = (at, at);
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut read), to, Some(&mut write), want) {
            // It became shorter meanwhile.
            Ok(0) => return Ok(()),
            Ok(count) => at += count as u64,
            // Not between these file systems.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut buffer = vec![0; PIECE.min(usize::try_from(end - at).unwrap_or(PIECE))];
    while at < end {
        let want = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        match from.read_at(&mut buffer[..want], at) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all_at(&buffer[..count], at)?;
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::walk::tests::{folder, nest, quick};
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{makedev, statat};

    fn two(temp: tempfile::TempDir) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        (temp, from, to)
    }

    #[test]
    fn everything_a_tree_can_hold() {
        let (_temp, from, to) = two(tempfile::tempdir().unwrap());
        let at = |name: &str| from.join(name);
        std::fs::create_dir_all(at("sub/deep")).unwrap();
        let strange = OsStr::from_bytes(b"na\xffme\n");
        std::fs::write(from.join(strange), "bytes").unwrap();
        std::fs::write(at("one"), "linked").unwrap();
        std::fs::hard_link(at("one"), at("sub/two")).unwrap();
        std::fs::hard_link(at("one"), at("sub/deep/three")).unwrap();
        symlink("/etc/shadow", at("link")).unwrap();
        let mode = Mode::from_raw_mode(0o640);
        mknodat(CWD, at("fifo"), FileType::Fifo, mode, 0).unwrap();
        std::fs::hard_link(at("fifo"), at("sub/fifo")).unwrap();
        mknodat(CWD, at("null"), FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
        drop(UnixListener::bind(at("socket")).unwrap());
        let holes = File::create(at("holes")).unwrap();
        holes.write_all_at(b"far", 8 << 20).unwrap();
        holes.set_len(16 << 20).unwrap();
        std::fs::write(at("suid"), "x").unwrap();
        std::os::unix::fs::chown(at("suid"), Some(12), Some(34)).unwrap();
        std::fs::set_permissions(at("suid"), PermissionsExt::from_mode(0o4755)).unwrap();
        setxattr(at("suid"), "user.note", b"kept", XattrFlags::empty()).unwrap();
        setxattr(at("sub"), "user.note", b"kept", XattrFlags::empty()).unwrap();
        std::fs::set_permissions(at("sub"), PermissionsExt::from_mode(0o3777)).unwrap();
        let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        for name in ["suid", "link", "sub", "fifo", ""] {
            utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }

        copy_tree(folder(&from), folder(&to)).unwrap();

        let mut seen = 0;
        let mut walk = Walk::new(folder(&from)).unwrap();
        let mut path = to.clone();
        while let Some(visit) = walk.step().unwrap() {
            match visit {
                Visit::Entry(name, a) => {
                    seen += 1;
                    let copy = path.join(os(&name));
                    let b = statat(CWD, &copy, AtFlags::SYMLINK_NOFOLLOW).unwrap();
                    let shown = |s: &Stat| {
                        (s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_rdev, s.st_size)
                    };
                    assert_eq!(shown(&a), shown(&b), "{}", copy.display());
                    assert_eq!((a.st_mtime, a.st_mtime_nsec), (b.st_mtime, b.st_mtime_nsec));
                    if kind(&a) == FileType::Directory {
                        path = copy;
                        assert!(walk.enter(&name).unwrap());
                    }
                }
                Visit::Leave => drop(path.pop()),
            }
        }
        assert_eq!(seen, 13);
        let at = |name: &str| to.join(name);
        let inode = |name: &str| std::fs::symlink_metadata(at(name)).unwrap().ino();
        assert_eq!((inode("one"), inode("one")), (inode("sub/two"), inode("sub/deep/three")));
        assert_eq!(inode("fifo"), inode("sub/fifo"));
        assert_eq!(std::fs::read(to.join(strange)).unwrap(), b"bytes");
        assert_eq!(std::fs::read_link(at("link")).unwrap(), Path::new("/etc/shadow"));
        assert!(std::fs::symlink_metadata(at("socket")).unwrap().file_type().is_socket());
        let mut value = [0; 16];
        for name in ["suid", "sub"] {
            let length = getxattr(at(name), "user.note", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"kept", "{name}");
        }
        let holes = std::fs::metadata(at("holes")).unwrap();
        assert!(holes.blocks() * 512 < 1 << 20, "{} blocks", holes.blocks());
        let mut far = [0; 3];
        File::open(at("holes")).unwrap().read_exact_at(&mut far, 8 << 20).unwrap();
        assert_eq!(&far, b"far");
        assert_eq!(std::fs::metadata(&to).unwrap().mtime(), 1_000_000_000);
    }

    #[test]
    fn trees_deeper_than_a_path_can_be() {
        let (_temp, from, to) = two(quick());
        nest(&from, 20_000);
        copy_tree(folder(&from), folder(&to)).unwrap();
        let mut walk = Walk::new(folder(&to)).unwrap();
        let mut folders = 0;
        while let Some(visit) = walk.step().unwrap() {
            if let Visit::Entry(name, stat) = visit
                && kind(&stat) == FileType::Directory
            {
                folders += 1;
                assert!(walk.enter(&name).unwrap());
            }
        }
        assert_eq!(folders, 20_000);
        super::super::remove_tree(&from).unwrap();
        super::super::remove_tree(&to).unwrap();
    }
}
