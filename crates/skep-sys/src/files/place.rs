//! Files that are written where they are.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};
use rustix::io::Errno;

/// Gives a file new content and `mode` without giving it a new inode, for files that are mounted into
/// containers. It is made if it is missing; a link at `path` is refused (`ELOOP`).
///
/// Neither atomic nor lasting: a reader at the wrong moment, and a crash, see a mixture.
pub fn overwrite(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(&mut open_own(path, mode)?, bytes)
}

/// A new empty file with exactly `mode`, open for reading and writing.
///
/// # Errors
/// `ErrorKind::AlreadyExists` if there is anything at `path`, a dangling link included.
pub fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(mode & 0o600).open(path)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// Opens a file of ours that is locked, or that keeps its content, for reading and writing; makes it if it
/// is missing. It gets exactly `mode` in both cases, since whoever may open a file may lock it. A link at
/// `path` is refused (`ELOOP`).
pub fn open_own(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode & 0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// The same for a file whose lock is all that counts: one that is there can be locked on a disk that takes no
/// writes. So can a folder that is in its place, which is never moved away: another may hold its lock.
///
/// # Errors
/// `ErrorKind::InvalidInput` for what cannot be locked: a link, a socket.
pub fn open_lock(path: &Path, mode: u32) -> io::Result<File> {
    let to_read = || {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    match open_own(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => to_read(),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            let folder = to_read()?;
            fchmod(&folder, Mode::from_raw_mode(mode))?;
            Ok(folder)
        }
        Err(error) if is_odd(&error) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a link or a socket, which cannot be locked: move it away",
        )),
        opened => opened,
    }
}

fn is_odd(error: &io::Error) -> bool {
    let odd = [Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| odd.contains(&code))
}

/// The old content goes only where the new one is already.
fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

/// Writes a value to a file of the kernel (`/proc`, `/sys`, a control group), in one call as those want it.
/// Never makes a file: `ErrorKind::NotFound` if the kernel has none there.
pub fn set_kernel(path: &Path, value: impl AsRef<[u8]>) -> io::Result<()> {
    let value = value.as_ref();
    let written = OpenOptions::new().write(true).open(path)?.write(value)?;
    if written == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A folder of the kernel's settings or of a control group, to reach several of its files by one look for its name.
#[derive(Debug)]
pub struct KernelDir(OwnedFd);

impl KernelDir {
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Writes a file's value where it has another. Whether it had; white space around it does not count. One that
    /// cannot be written is no error if it has the value.
    pub fn set(&self, name: &Path, value: &str) -> io::Result<bool> {
        let open = |flags| openat(&self.0, name, flags | OFlags::CLOEXEC, Mode::empty());
        let (file, refusal) = match open(OFlags::RDWR) {
            Ok(file) => (file, None),
            Err(error @ (Errno::ACCESS | Errno::ROFS | Errno::PERM)) => {
                (open(OFlags::RDONLY)?, Some(error))
            }
            Err(error) => return Err(error.into()),
        };
        let mut file = File::from(file);
        let mut current = String::new();
        file.read_to_string(&mut current)?;
        if current.trim() == value {
            return Ok(false);
        }
        if let Some(refusal) = refusal {
            return Err(refusal.into());
        }
        // Anywhere else the kernel refuses it.
        let written = file.write_at(value.as_bytes(), 0)?;
        if written == value.len() { Ok(true) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn the_inode_stays_and_the_mode_is_exact() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hosts");
        overwrite(&path, b"a long line", 0o644).unwrap();
        let made = fs::metadata(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        overwrite(&path, b"short", 0o644).unwrap();
        let now = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!((now.ino(), now.mode() & 0o7777, made.mode()), (made.ino(), 0o644, now.mode()));
    }

    #[test]
    fn a_folder_in_a_locks_place_is_locked_like_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        fs::create_dir_all(path.join("content")).unwrap();
        let first = open_lock(&path, 0o600).unwrap();
        first.try_lock().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(open_lock(&path, 0o600).unwrap().try_lock().is_err());
        drop(first);
        open_lock(&path, 0o600).unwrap().try_lock().unwrap();
        let link = temp.path().join("link");
        symlink(&path, &link).unwrap();
        let refused = open_lock(&link, 0o600).unwrap_err().to_string();
        assert!(refused.contains("move it away"), "{refused}");
    }

    #[test]
    fn links_are_refused_and_the_kernel_gets_no_new_files() {
        let temp = tempfile::tempdir().unwrap();
        let (target, link) = (temp.path().join("target"), temp.path().join("link"));
        fs::write(&target, "keep").unwrap();
        symlink(&target, &link).unwrap();
        overwrite(&link, b"new", 0o644).unwrap_err();
        assert_eq!(fs::read(&target).unwrap(), b"keep");
        let error = set_kernel(&temp.path().join("none"), "1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        set_kernel(Path::new("/proc/thread-self/comm"), "door").unwrap();
    }
}
