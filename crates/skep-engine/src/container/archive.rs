//! `docker cp`: tar archives in and out of a container.
//!
//! Every path is resolved by the kernel with the container's root as `/` (openat2,
//! RESOLVE_IN_ROOT), one entry at a time: a link in the container or in the archive leads where it
//! would lead inside, never to the host, also while the container changes it. Packing and unpacking
//! are the image room's.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstat, readlinkat, statat};
use skep_image::unpack::{UnpackError, UnpackOptions, unpack_in};
use skep_image::{Limits, PackOptions, pack_entry};
use time::OffsetDateTime;
use tokio::io::AsyncRead;

use super::root::{self, Place};
use super::spec;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::options::{ByteStream, PathStat, PutArchiveOptions};
use crate::stream;
use crate::util;

/// A looked-up path: its folder opened, and its last part.
pub(super) struct Found {
    /// The folder it is in; for `/` and paths that end in a slash or dot the thing itself.
    parent: OwnedFd,
    /// Its name in there; `.` for the folder itself.
    entry: CString,
    /// Last part of the path as given, for the archive.
    name: String,
    stat: Stat,
}

impl Engine {
    /// What is at a path.
    ///
    /// # Errors
    /// `NoSuchContainer`, `NoSuchPath`.
    pub async fn container_archive_stat(&self, container: &str, path: &str) -> Result<PathStat> {
        let c = self.inner.containers.find(container)?;
        let (this, path, container) = (self.clone(), path.to_owned(), container.to_owned());
        util::blocking(move || {
            let record = c.record();
            let place = root::locate(&this, &c, &record, &path)?;
            let found =
                find(&place, &path).map_err(|e| root::lookup_error(e, &path, &container))?;
            path_stat(&found, &path)
        })
        .await
    }

    /// What is at a path, and a tar of it: the names begin with the path's last part.
    ///
    /// # Errors
    /// `NoSuchContainer`, `NoSuchPath`; errors later are items of the stream.
    pub async fn container_archive_get(
        &self,
        container: &str,
        path: &str,
    ) -> Result<(PathStat, ByteStream)> {
        let c = self.inner.containers.find(container)?;
        let (this, path, container, owner) =
            (self.clone(), path.to_owned(), container.to_owned(), c.clone());
        let (stat, place, found, empty) = util::blocking(move || {
            let record = owner.record();
            let place = root::locate(&this, &owner, &record, &path)?;
            let found =
                find(&place, &path).map_err(|e| root::lookup_error(e, &path, &container))?;
            let empty = place.devices(&record).map_err(EngineError::file("look into", "/dev"))?;
            Ok::<_, EngineError>((path_stat(&found, &path)?, place, found, empty))
        })
        .await?;
        let output = stream::written(move |writer| {
            let options = PackOptions { empty, ..PackOptions::default() };
            let packed = pack_found(&found, writer, &options);
            drop(place);
            packed
        });
        self.container_event(&c, "archive-path", &[]);
        Ok((stat, output))
    }

    /// Unpacks a tar, perhaps compressed (gzip, zstd, bzip2, xz), into a folder of a container.
    ///
    /// # Errors
    /// `NoSuchContainer`, `NoSuchPath`, `Invalid` when the path is no folder or the archive is
    /// malformed, `Forbidden` when it may not be written. Entries before a malformed one stay.
    pub async fn container_archive_put<R>(
        &self,
        container: &str,
        path: &str,
        options: PutArchiveOptions,
        archive: R,
    ) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let c = self.inner.containers.find(container)?;
        let reader = stream::reader(archive);
        let (this, path, container, owner) =
            (self.clone(), path.to_owned(), container.to_owned(), c.clone());
        util::blocking(move || {
            let record = owner.record();
            let place = root::locate(&this, &owner, &record, &path)?;
            let failed = |e| root::lookup_error(e, &path, &container);
            let folder = place.open(&place.path, OFlags::PATH).map_err(failed)?;
            let stat = fstat(&folder).map_err(|e| failed(e.into()))?;
            if kind(&stat) != FileType::Directory {
                return Err(EngineError::invalid("extraction point is not a directory"));
            }
            if place.read_only {
                return Err(EngineError::Forbidden("container rootfs is marked read-only".into()));
            }
            let owner_ids = match record
                .config
                .user
                .as_deref()
                .filter(|u| options.copy_uid_gid && !u.is_empty())
            {
                Some(user) => {
                    let user = spec::user(&place.root_path(), user, &[])?;
                    Some((user.uid, user.gid))
                }
                None => None,
            };
            let options = UnpackOptions {
                owner: owner_ids,
                keep_kind: options.no_overwrite_dir_non_dir,
                // What is mounted where is not known; the kernel says when it is full.
                limits: Limits { min_free_bytes: 0, ..Limits::default() },
                ..UnpackOptions::default()
            };
            unpack_in(reader, place.root, Path::new(&place.path), &options)
                .map(drop)
                .map_err(unpack_error)
        })
        .await?;
        self.container_event(&c, "extract-to-dir", &[]);
        Ok(())
    }
}

/// Looks a path up without following its last part, unless it ends in a slash or dot.
fn find(place: &Place, given: &str) -> io::Result<Found> {
    let follow = place.path == "/" || given.ends_with('/') || given.ends_with("/.");
    let name = match super::merge::clean(given).rsplit_once('/') {
        Some((_, "")) | None => ".".to_owned(),
        Some((_, name)) => name.to_owned(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let (parent, entry) = if follow {
        (place.open(&place.path, flags)?, ".")
    } else {
        let (folder, entry) = place.path.rsplit_once('/').unwrap_or(("", &place.path));
        (place.open(if folder.is_empty() { "/" } else { folder }, flags)?, entry)
    };
    let entry = CString::new(entry)?;
    let stat = statat(&parent, &entry, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Found { parent, entry, name, stat })
}

/// Writes what was found as a tar, under its own name.
fn pack_found(found: &Found, writer: &mut dyn io::Write, options: &PackOptions) -> io::Result<()> {
    pack_entry(found.parent.as_fd(), &found.entry, Path::new(&found.name), writer, options)
}

fn unpack_error(error: UnpackError) -> EngineError {
    match error.kind() {
        ErrorKind::System => EngineError::system("could not unpack the archive", error),
        _ => EngineError::Invalid(crate::error::report(&error)),
    }
}

fn path_stat(found: &Found, given: &str) -> Result<PathStat> {
    let s = &found.stat;
    let link_target = if kind(s) == FileType::Symlink {
        let target = readlinkat(&found.parent, &found.entry, Vec::new()).map_err(|e| {
            EngineError::File { action: "read link", path: given.into(), source: e.into() }
        })?;
        let target = target.to_string_lossy().into_owned();
        let folder = super::merge::clean(given);
        let folder = folder.rsplit_once('/').map_or("", |(f, _)| f);
        super::merge::clean(&if target.starts_with('/') {
            target
        } else {
            format!("{folder}/{target}")
        })
    } else {
        String::new()
    };
    let mtime = OffsetDateTime::from_unix_timestamp(s.st_mtime).ok().and_then(|t| {
        let nanos = i64::try_from(s.st_mtime_nsec).unwrap_or(0);
        t.checked_add(time::Duration::nanoseconds(nanos))
    });
    Ok(PathStat {
        name: if found.name == "." { "/".to_owned() } else { found.name.clone() },
        size: s.st_size,
        mode: go_mode(s),
        mtime: util::rfc3339_or_zero(mtime),
        link_target,
    })
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Go's `os.FileMode`.
fn go_mode(stat: &Stat) -> u32 {
    let mut mode = stat.st_mode & 0o777;
    for (bit, flag) in [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)] {
        if stat.st_mode & bit != 0 {
            mode |= flag;
        }
    }
    mode | match kind(stat) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::os::unix::fs::symlink;

    fn place(root: &Path, path: &str) -> Place {
        Place {
            root: rustix::fs::open(root, OFlags::PATH, rustix::fs::Mode::empty()).unwrap(),
            path: super::super::merge::clean(path),
            read_only: false,
            _guard: None,
        }
    }

    fn put(
        root: &Path,
        folder: &str,
        keep_kind: bool,
        archive: Vec<u8>,
    ) -> Result<(), EngineError> {
        let options = UnpackOptions { keep_kind, ..UnpackOptions::default() };
        let root = place(root, "/").root;
        unpack_in(Cursor::new(archive), root, Path::new(folder), &options)
            .map(drop)
            .map_err(unpack_error)
    }

    fn pack(root: &Path, path: &str) -> Vec<String> {
        let found = find(&place(root, path), path).unwrap();
        let mut bytes = Vec::new();
        pack_found(&found, &mut bytes, &PackOptions::default()).unwrap();
        let mut archive = ::tar::Archive::new(Cursor::new(bytes));
        let mut names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn names_in_archives() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/f"), "x").unwrap();
        symlink("/a/b", dir.path().join("l")).unwrap();
        assert_eq!(pack(dir.path(), "/a/b"), ["b/", "b/f"]);
        assert_eq!(pack(dir.path(), "/a/b/."), ["b/", "b/f"]);
        assert_eq!(pack(dir.path(), "/l"), ["l"]);
        assert_eq!(pack(dir.path(), "/l/"), ["l/", "l/f"]);
        assert_eq!(pack(dir.path(), "/a/b/f"), ["f"]);
        let stat = path_stat(&find(&place(dir.path(), "/l"), "/l").unwrap(), "/l").unwrap();
        assert_eq!((stat.link_target.as_str(), stat.mode >> 27 & 1), ("/a/b", 1));
        assert!(find(&place(dir.path(), "/nope"), "/nope").is_err());
    }

    #[test]
    fn links_never_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("secret"), "s").unwrap();
        symlink(&outside, root.join("out")).unwrap();
        symlink("../../../outside", root.join("sub/up")).unwrap();
        for path in ["/out/secret", "/sub/up/secret"] {
            assert!(find(&place(&root, path), path).is_err(), "{path}");
        }
        // An archive that brings a link and then writes through it stays inside as well.
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(::tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", &outside).unwrap();
        let mut header = ::tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, "link/f", &b"x"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        assert!(put(&root, "/sub", false, bytes.clone()).is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        // Where the link's path exists inside, that is what it means.
        let inside = root.join(outside.strip_prefix("/").unwrap());
        std::fs::create_dir_all(&inside).unwrap();
        put(&root, "/sub", false, bytes).unwrap();
        assert!(inside.join("f").exists());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn directories_are_not_replaced_when_asked_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("x")).unwrap();
        let archive = || {
            let mut builder = ::tar::Builder::new(Vec::new());
            let mut header = ::tar::Header::new_gnu();
            header.set_size(2);
            header.set_mode(0o600);
            builder.append_data(&mut header, "x", &b"hi"[..]).unwrap();
            builder.into_inner().unwrap()
        };
        let error = put(dir.path(), "/", true, archive()).unwrap_err();
        assert!(error.report().contains("cannot overwrite directory"), "{}", error.report());
        put(dir.path(), "/", false, archive()).unwrap();
        assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"hi");
        assert!(put(dir.path(), "/", false, vec![1u8; 1024]).is_err());
    }

    /// What a container can put in the way of its own copies.
    #[test]
    fn fifos_and_devices_in_the_way() {
        use rustix::fs::{CWD, Mode, makedev, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, dir.path().join("f"), FileType::Fifo, mode, 0).unwrap();
        let full = makedev(1, 7);
        mknodat(CWD, dir.path().join("dev"), FileType::CharacterDevice, mode, full).unwrap();
        assert_eq!(pack(dir.path(), "/"), ["./", "dev", "f"]);
        let mut builder = ::tar::Builder::new(Vec::new());
        for name in ["f", "dev"] {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(2);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &b"hi"[..]).unwrap();
        }
        put(dir.path(), "/", true, builder.into_inner().unwrap()).unwrap();
        for name in ["f", "dev"] {
            assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), b"hi");
        }
    }

    /// The container exchanges a file that is being unpacked with a link to the host's and with a FIFO.
    #[test]
    fn copies_that_race_with_the_container() {
        use rustix::fs::{CWD, Mode, RenameFlags, mknodat, renameat_with};
        use std::os::unix::fs::PermissionsExt;
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let (root, secret) = (dir.path().join("root"), dir.path().join("secret"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&secret, "host").unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        symlink(&secret, root.join("link")).unwrap();
        mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o4777);
        builder.append_data(&mut header, "f", &b"hi"[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let folder = std::fs::File::open(&root).unwrap();
                while !over.load(Ordering::Relaxed) {
                    for other in ["link", "fifo"] {
                        // Not there in the moment of its replacement.
                        let _ = renameat_with(&folder, "f", &folder, other, RenameFlags::EXCHANGE);
                    }
                }
            });
            let begun = std::time::Instant::now();
            let (mut done, mut refused) = (0, 0);
            while begun.elapsed() < std::time::Duration::from_secs(2) {
                match put(&root, "/", true, archive.clone()) {
                    Ok(()) => done += 1,
                    Err(_) => refused += 1,
                }
                let found = find(&place(&root, "/f"), "/f");
                if let Ok(found) = found {
                    let mut bytes = Vec::new();
                    // It may have vanished again.
                    if pack_found(&found, &mut bytes, &PackOptions::default()).is_ok() {
                        assert!(!bytes.windows(4).any(|w| w == b"host"));
                    }
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(done > 0, "{done} done, {refused} refused");
        });
        assert_eq!(std::fs::read(&secret).unwrap(), b"host");
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
