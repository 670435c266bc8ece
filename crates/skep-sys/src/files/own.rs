//! Folders that are ours alone.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fstat, openat};
use rustix::io::Errno;

use super::dir::make_dirs;
use super::replace::remove_leftovers;

/// As [`make_dirs`], for a folder that is ours alone, at the start: one that exists gets exactly `mode`, too,
/// and what a crash left of [`super::replace()`] in it goes.
pub fn own_dir(path: &Path, mode: u32) -> io::Result<()> {
    dir_of_mode(path, mode)?;
    match remove_leftovers(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        done => done,
    }
}

/// As [`make_dirs`], for a folder that users put things into: one that exists gets exactly `mode`, too, and
/// what is in it stays, whatever its name.
pub fn dir_of_mode(path: &Path, mode: u32) -> io::Result<()> {
    make_dirs(path, mode)?;
    let dir =
        openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // Nothing is written that is right already: the folder may be on a disk that takes no writes.
    if fstat(&dir)?.st_mode & 0o7777 != mode {
        fchmod(&dir, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// Opens a regular file for reading; `None` if there is none. Whatever else has its name is an error, and is not
/// waited for as a pipe would be.
pub fn open_existing(path: &Path) -> io::Result<Option<File>> {
    open_regular(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK)
}

/// Opens a regular file to append to; makes it with `mode` if it is missing. Whatever else has its name is an
/// error, and is not waited for.
pub fn open_append(path: &Path, mode: u32) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(CWD, path, flags, Mode::from_raw_mode(mode))?);
    regular(file)
}

/// Bytes of a state file that is read; ours are far smaller. A larger one is damaged, and is not to take the
/// daemon's memory with it.
pub const LARGEST: u64 = 64 << 20;

/// The content of a regular file; `None` if there is none. Whatever else has its name is an error, and is not
/// waited for as a pipe would be; so is a file of more than [`LARGEST`] bytes (`ErrorKind::FileTooLarge`).
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    read_at_most(path, LARGEST)
}

/// The same of one that may have up to `largest` bytes.
pub fn read_at_most(path: &Path, largest: u64) -> io::Result<Option<Vec<u8>>> {
    open_existing(path)?.map(|file| content(&file, largest)).transpose()
}

fn content(file: &File, largest: u64) -> io::Result<Vec<u8>> {
    let too_large = |size: u64| {
        let why = format!("it is larger than {largest} bytes, as no file here is");
        if size > largest { Err(io::Error::new(io::ErrorKind::FileTooLarge, why)) } else { Ok(()) }
    };
    too_large(file.metadata()?.len())?;
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    let read = file.take(largest.saturating_add(1)).read_to_end(&mut bytes)?;
    too_large(read as u64)?;
    Ok(bytes)
}

/// The same of a file that must be there.
///
/// # Errors
/// `ENOENT` if it is not, and those of [`read()`].
pub fn read_existing(path: &Path) -> io::Result<Vec<u8>> {
    read(path)?.ok_or_else(|| Errno::NOENT.into())
}

/// `flags` are to have `O_NONBLOCK`: else the opening itself waits for the other end of a pipe.
fn open_regular(path: &Path, flags: OFlags) -> io::Result<Option<File>> {
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    regular(file).map(Some)
}

fn regular(file: File) -> io::Result<File> {
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The content of a regular file that is ours alone; `None` if there is none. One that has another mode than
/// `mode`, as an older version may have left it, gets it; where the disk takes no writes it is read all the same.
pub fn read_own(path: &Path, mode: u32) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Some(file) = open_regular(path, flags)? else { return Ok(None) };
    if fstat(&file)?.st_mode & 0o7777 != mode {
        match fchmod(&file, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::ROFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    content(&file, LARGEST).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state.json");
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(read_existing(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for error in [read(&path).unwrap_err(), read_own(&path, 0o600).unwrap_err()] {
            assert_eq!(error.to_string(), "not a regular file");
        }
        assert!(open_append(&path, 0o600).is_err());
        let log = temp.path().join("log");
        for _ in 0..2 {
            io::Write::write_all(&mut open_append(&log, 0o640).unwrap(), b"line").unwrap();
        }
        assert_eq!(read_existing(&log).unwrap(), b"lineline");
        assert_eq!(read(temp.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn what_is_too_large_to_be_ours_is_not_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state.json");
        let file = File::create(&path).unwrap();
        // Sparse: it takes no room, and reading it would take all memory.
        file.set_len(1 << 40).unwrap();
        for refused in [read(&path), read_own(&path, 0o600)] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
        file.set_len(10).unwrap();
        assert_eq!(read_at_most(&path, 10).unwrap().map(|bytes| bytes.len()), Some(10));
        assert!(read_at_most(&path, 9).is_err());
    }

    #[test]
    fn a_file_that_was_open_to_others_is_closed_when_it_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state.json");
        assert_eq!(read_own(&path, 0o600).unwrap(), None);
        for before in [0o666, 0o644, 0o600, 0o400] {
            std::fs::write(&path, "it").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(before)).unwrap();
            assert_eq!(read_own(&path, 0o600).unwrap().as_deref(), Some(&b"it"[..]));
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{before:o}");
        }
        // Nothing that only looks like it: what a link leads to keeps its mode.
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_own(&link, 0o644).is_err());
        assert!(read_own(temp.path(), 0o644).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_exists_gets_the_mode_and_loses_what_a_crash_left() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        make_dirs(&dir, 0o775).unwrap();
        std::fs::write(dir.join("state.json.7.new"), "half").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        dir_of_mode(&dir, 0o700).unwrap();
        assert_eq!((mode(&dir), std::fs::read_dir(&dir).unwrap().count()), (0o700, 1));
        own_dir(&dir, 0o711).unwrap();
        assert_eq!((mode(&temp.path().join("a")), mode(&dir)), (0o775, 0o711));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }
}
