//! Parts of volumes (`volume-subpath`).
//!
//! Whoever has the whole volume may exchange names in it at any time, and the runtime looks its sources
//! up by name. So the part is opened here, never outside of the volume, and what was opened is bound
//! where nobody else can write; that place is what the runtime gets. The bind is there until the
//! container has its own.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use skep_sys::files::{self, Beneath, Durability, open_beneath};

use crate::config::EngineConfig;
use crate::error::{EngineError, Result};

/// A part of a volume, bound where only this daemon can write; gone when this is dropped (blocks).
#[derive(Debug)]
pub struct PrivateBind {
    /// Where it is in the container.
    pub destination: String,
    /// Where it is on the host meanwhile.
    pub source: PathBuf,
}

impl PrivateBind {
    /// Binds `subpath` of the folder `volume`. Links in there are followed as far as they stay in the
    /// volume. `name` is unique among the binds of `config`'s engine.
    ///
    /// # Errors
    /// File errors; nothing is left then.
    pub fn make(
        config: &EngineConfig,
        name: &str,
        volume: &Path,
        subpath: &str,
        destination: &str,
    ) -> Result<Self> {
        let shown = volume.join(subpath);
        let failed = |source: io::Error| EngineError::File {
            action: "access path",
            path: shown.clone(),
            source,
        };
        let part = part_of(volume, subpath).map_err(failed)?;
        let folder = folder(config);
        let at = folder.join(name);
        files::make_dirs(&folder, 0o700).map_err(EngineError::file("create", &folder))?;
        let kind = FileType::from_raw_mode(fstat(&part).map_err(|e| failed(e.into()))?.st_mode);
        let made = match kind {
            FileType::Directory => files::make_dir(&at, 0o700),
            _ => files::replace(&at, b"", 0o600, Durability::Volatile),
        };
        made.map_err(EngineError::file("create", &at))?;
        // From here on dropping it cleans up.
        let bind = Self { destination: destination.to_owned(), source: at };
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        open_tree(&part, "", clone)
            .and_then(|tree| {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(&tree, "", CWD, &bind.source, flags)
            })
            .map_err(|e| failed(e.into()))?;
        Ok(bind)
    }
}

impl Drop for PrivateBind {
    fn drop(&mut self) {
        if let Err(error) = undo(&self.source) {
            tracing::warn!(path = %self.source.display(), %error, "could not take a volume's part away");
        }
    }
}

/// Opens a part of a volume without leaving it.
///
/// # Errors
/// Those of openat2(2): `EXDEV` where a link leads out.
pub fn part_of(volume: &Path, subpath: &str) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let volume = rustix::fs::open(volume, flags | OFlags::DIRECTORY, rustix::fs::Mode::empty())?;
    open_beneath(&volume, Path::new(subpath), flags, Beneath::Refused)
}

/// Takes away what a daemon that was killed left bound. Reports what cannot be removed and goes on.
pub fn remove_leftovers(config: &EngineConfig) {
    let folder = folder(config);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "could not look for left parts of volumes");
            return;
        }
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if let Err(error) = undo(&path) {
            tracing::warn!(path = %path.display(), %error, "could not take a left part of a volume away");
        }
    }
}

fn folder(config: &EngineConfig) -> PathBuf {
    config.exec_root.join("subpaths")
}

/// Unmounts and removes the empty file or folder below; never what was mounted.
fn undo(at: &Path) -> io::Result<()> {
    loop {
        match umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Nothing (more) is mounted there.
            Err(Errno::EINVAL) => break,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    match std::fs::remove_dir(at) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(at),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use rustix::fs::{RenameFlags, renameat_with};

    /// In a mount namespace of its own: `f` runs in a thread that has one.
    fn with_own_mounts(f: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                nix::mount::mount(
                    None::<&str>,
                    "/",
                    None::<&str>,
                    nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
                    None::<&str>,
                )
                .unwrap();
                f();
            });
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    fn config(dir: &Path) -> EngineConfig {
        EngineConfig::new(dir.join("data"), dir.join("exec"), "/nowhere")
    }

    #[test]
    fn files_and_folders_are_bound_and_go_again() {
        let dir = tempfile::tempdir().unwrap();
        let (config, volume) = (config(dir.path()), dir.path().join("volume"));
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        std::fs::write(volume.join("sub/file"), "content").unwrap();
        symlink("sub/file", volume.join("inside")).unwrap();
        symlink(dir.path(), volume.join("absolute")).unwrap();
        symlink("..", volume.join("up")).unwrap();
        with_own_mounts(|| {
            let make = |subpath| PrivateBind::make(&config, "c-0", &volume, subpath, "/m");
            for (subpath, read) in [("sub", "file"), ("sub/file", ""), ("inside", "")] {
                let bind = make(subpath).unwrap();
                let path =
                    if read.is_empty() { bind.source.clone() } else { bind.source.join(read) };
                assert_eq!(std::fs::read(path).unwrap(), b"content", "{subpath}");
            }
            for subpath in ["absolute", "up", "absent", "sub/../.."] {
                let error = make(subpath).unwrap_err();
                assert!(error.to_string().starts_with("cannot access path"), "{error}");
            }
            assert_eq!(std::fs::read_dir(folder(&config)).unwrap().count(), 0);
            // A daemon that was killed while a container was made.
            std::mem::forget(make("sub").unwrap());
            remove_leftovers(&config);
            assert_eq!(std::fs::read_dir(folder(&config)).unwrap().count(), 0);
            assert_eq!(std::fs::read(volume.join("sub/file")).unwrap(), b"content");
        });
    }

    /// Another container exchanges the part with a link to the host, as fast as it can.
    #[test]
    fn a_part_never_leaves_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let (config, volume) = (config(dir.path()), dir.path().join("volume"));
        std::fs::create_dir_all(volume.join("s")).unwrap();
        std::fs::create_dir(dir.path().join("host")).unwrap();
        symlink(dir.path().join("host"), volume.join("t")).unwrap();
        let right = std::fs::metadata(volume.join("s")).unwrap().ino();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let folder = std::fs::File::open(&volume).unwrap();
                while !over.load(Ordering::Relaxed) {
                    renameat_with(&folder, "s", &folder, "t", RenameFlags::EXCHANGE).unwrap();
                }
            });
            with_own_mounts(|| {
                let (mut bound, mut refused) = (0, 0);
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(2) || bound == 0 || refused == 0 {
                    assert!(begun.elapsed() < Duration::from_secs(60), "{bound} {refused}");
                    match PrivateBind::make(&config, "c-0", &volume, "s", "/m") {
                        Ok(bind) => {
                            assert_eq!(std::fs::metadata(&bind.source).unwrap().ino(), right);
                            bound += 1;
                        }
                        Err(_) => refused += 1,
                    }
                }
            });
            over.store(true, Ordering::Relaxed);
        });
    }
}
