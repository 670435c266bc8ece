//! `docker cp`: tar archives in and out of a container.
//!
//! Every path is resolved by the kernel with the container's root as `/` (openat2,
//! RESOLVE_IN_ROOT), one entry at a time: a link in the container or in the archive leads where it
//! would lead inside, never to the host, also while the container changes it.

mod pack;
mod unpack;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstatat};
use skep_container::spec::rootfs;
use time::OffsetDateTime;
use tokio::io::AsyncRead;

use super::root::{self, Place};
use super::spec;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::options::{ByteStream, PathStat, PutArchiveOptions};
use crate::stream;
use crate::util;

/// A looked-up path: its folder opened, and its last part.
pub(super) struct Found {
    /// The folder it is in; for `/` and paths that end in a slash or dot the thing itself.
    parent: OwnedFd,
    /// Its name in there; `.` for the folder itself.
    entry: String,
    /// Last part of the path as given, for the archive.
    name: String,
    stat: FileStat,
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
        let (stat, place, found) = util::blocking(move || {
            let record = owner.record();
            let place = root::locate(&this, &owner, &record, &path)?;
            let found =
                find(&place, &path).map_err(|e| root::lookup_error(e, &path, &container))?;
            Ok::<_, EngineError>((path_stat(&found, &path)?, place, found))
        })
        .await?;
        let output = stream::written(move |writer| {
            let packed = pack::tree(&found, writer);
            drop(place);
            packed
        });
        self.container_event(&c, "archive-path", &[]);
        Ok((stat, output))
    }

    /// Unpacks a tar, perhaps compressed with gzip, into a folder of a container.
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
            let folder = rootfs::open(&place.root, Path::new(&place.path), OFlag::O_PATH)
                .map_err(|e| root::lookup_error(e, &path, &container))?;
            if !is_dir(
                &nix::sys::stat::fstat(&folder)
                    .map_err(|e| root::lookup_error(e.into(), &path, &container))?,
            ) {
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
                    let user = spec::user(&place.root, user, &[])?;
                    Some((user.uid, user.gid))
                }
                None => None,
            };
            unpack::into(
                &place.root,
                &place.path,
                reader,
                options.no_overwrite_dir_non_dir,
                owner_ids,
            )
        })
        .await?;
        self.container_event(&c, "extract-to-dir", &[]);
        Ok(())
    }
}

/// Looks a path up without following its last part, unless it ends in a slash or dot.
fn find(place: &Place, given: &str) -> std::io::Result<Found> {
    let follow = place.path == "/" || given.ends_with('/') || given.ends_with("/.");
    let name = match super::merge::clean(given).rsplit_once('/') {
        Some((_, "")) | None => ".".to_owned(),
        Some((_, name)) => name.to_owned(),
    };
    let (parent, entry) = if follow {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        (rootfs::open(&place.root, Path::new(&place.path), flags)?, ".".to_owned())
    } else {
        let (folder, entry) = place.path.rsplit_once('/').unwrap_or(("", &place.path));
        let folder = if folder.is_empty() { "/" } else { folder };
        (
            rootfs::open(&place.root, Path::new(folder), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?,
            entry.to_owned(),
        )
    };
    let stat = fstatat(parent.as_fd(), entry.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(Found { parent, entry, name, stat })
}

fn path_stat(found: &Found, given: &str) -> Result<PathStat> {
    let s = &found.stat;
    let link_target = if kind(s) == SFlag::S_IFLNK {
        let target = readlinkat(found.parent.as_fd(), found.entry.as_str()).map_err(|e| {
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
    let mtime = OffsetDateTime::from_unix_timestamp(s.st_mtime)
        .ok()
        .and_then(|t| t.checked_add(time::Duration::nanoseconds(s.st_mtime_nsec)));
    Ok(PathStat {
        name: if found.name == "." { "/".to_owned() } else { found.name.clone() },
        size: s.st_size,
        mode: go_mode(s),
        mtime: util::rfc3339_or_zero(mtime),
        link_target,
    })
}

pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

pub(super) fn is_dir(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFDIR
}

/// Go's `os.FileMode`.
fn go_mode(stat: &FileStat) -> u32 {
    let mut mode = stat.st_mode & 0o777;
    for (bit, flag) in [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)] {
        if stat.st_mode & bit != 0 {
            mode |= flag;
        }
    }
    mode | match kind(stat) {
        SFlag::S_IFDIR => 1 << 31,
        SFlag::S_IFLNK => 1 << 27,
        SFlag::S_IFBLK => 1 << 26,
        SFlag::S_IFCHR => 1 << 26 | 1 << 21,
        SFlag::S_IFIFO => 1 << 25,
        SFlag::S_IFSOCK => 1 << 24,
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
            root: root.to_owned(),
            path: super::super::merge::clean(path),
            read_only: false,
            _guard: None,
        }
    }

    fn pack(root: &Path, path: &str) -> Vec<String> {
        let found = find(&place(root, path), path).unwrap();
        let mut bytes = Vec::new();
        pack::tree(&found, &mut bytes).unwrap();
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
        assert!(unpack::into(&root, "/sub", Cursor::new(bytes.clone()), false, None).is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        // Where the link's path exists inside, that is what it means.
        let inside = root.join(outside.strip_prefix("/").unwrap());
        std::fs::create_dir_all(&inside).unwrap();
        unpack::into(&root, "/sub", Cursor::new(bytes), false, None).unwrap();
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
            Cursor::new(builder.into_inner().unwrap())
        };
        assert!(unpack::into(dir.path(), "/", archive(), true, None).is_err());
        unpack::into(dir.path(), "/", archive(), false, None).unwrap();
        assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"hi");
        assert!(unpack::into(dir.path(), "/", Cursor::new(vec![1u8; 1024]), false, None).is_err());
    }
}
