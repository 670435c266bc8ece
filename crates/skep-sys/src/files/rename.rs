//! Names that change hands.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::dir::sync_parent;
use super::replace::Durability;

/// Renames a file or folder; a file, or an empty folder, that has the name is replaced. Its content is not
/// synced.
pub fn rename(from: &Path, to: &Path, durability: Durability) -> io::Result<()> {
    std::fs::rename(from, to)?;
    match durability {
        Durability::Lasting => {
            sync_parent(to)?;
            if from.parent() == to.parent() { Ok(()) } else { sync_parent(from) }
        }
        Durability::Volatile => Ok(()),
    }
}

/// Renames a file or folder to a name that is free: what was prepared aside appears whole.
///
/// # Errors
/// `ErrorKind::AlreadyExists` if there is anything at `to`, also an empty folder, which a plain rename would
/// replace. Both are then as they were.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that has no such rename; between the two calls only root could come.
        Err(Errno::INVAL | Errno::NOSYS) => match std::fs::symlink_metadata(to) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::rename(from, to),
            Err(error) => Err(error),
        },
        other => Ok(other?),
    }
}

/// Takes a file that cannot be used out of the way, to `name.damaged` or, if there is one of before,
/// `name.damaged-2` and so on: something else may be written in its place, and nothing of it is lost. The
/// new name is returned.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for n in 1u32.. {
        let mut aside = name.to_owned();
        aside.push(if n == 1 { ".damaged".to_owned() } else { format!(".damaged-{n}") });
        let aside = path.with_file_name(aside);
        match rename_new(path, &aside) {
            Ok(()) => {
                super::sync_parent(&aside)?;
                return Ok(aside);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// What [`set_aside`] left in a folder, by name; nothing if the folder is not there.
pub fn set_aside_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let last = path.extension().and_then(|last| last.to_str()).unwrap_or_default();
        let number = last.strip_prefix("damaged-").unwrap_or("2");
        if last.starts_with("damaged")
            && (last == "damaged" || number.parse::<u32>().is_ok_and(|n| n > 1))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Takes what is no regular file (a folder, a link, a pipe) out of the way of a file of ours, as [`set_aside`].
/// `None` if there is a regular file, or nothing.
pub fn set_aside_odd(path: &Path) -> io::Result<Option<PathBuf>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => set_aside(path).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_file_is_odd() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("id");
        assert_eq!(set_aside_odd(&path).unwrap(), None);
        std::fs::create_dir_all(path.join("content")).unwrap();
        let aside = set_aside_odd(&path).unwrap().unwrap();
        assert!(aside.join("content").is_dir() && aside.ends_with("id.damaged"));
        // What a link leads to stays where it is.
        std::fs::write(temp.path().join("other"), "it").unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert!(set_aside_odd(&path).unwrap().unwrap().is_symlink());
        std::fs::write(&path, "id").unwrap();
        assert_eq!(set_aside_odd(&path).unwrap(), None);
        assert_eq!(std::fs::read(temp.path().join("other")).unwrap(), b"it");
    }

    #[test]
    fn what_is_set_aside_is_never_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state.json");
        for (content, name) in [("a", "state.json.damaged"), ("b", "state.json.damaged-2")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(set_aside(&path).unwrap(), temp.path().join(name));
            assert_eq!(set_aside_in(temp.path()).unwrap().last(), Some(&temp.path().join(name)));
            assert_eq!(std::fs::read_to_string(temp.path().join(name)).unwrap(), content);
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_rename_takes_a_file_s_name_and_no_folder_s() {
        let temp = tempfile::tempdir().unwrap();
        let [new, old, folder] = ["new", "old", "folder"].map(|name| temp.path().join(name));
        std::fs::create_dir_all(folder.join("content")).unwrap();
        std::fs::write(&new, "new").unwrap();
        std::fs::write(&old, "old").unwrap();
        rename(&new, &folder, Durability::Lasting).unwrap_err();
        rename(&new, &old, Durability::Lasting).unwrap();
        assert_eq!(std::fs::read(&old).unwrap(), b"new");
        rename(&old, &folder.join("content/moved"), Durability::Lasting).unwrap();
        assert!(!new.exists() && !old.exists());
    }

    #[test]
    fn only_a_free_name_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let [new, taken, free] = ["new", "taken", "free"].map(|name| temp.path().join(name));
        for dir in [&new, &taken] {
            std::fs::create_dir(dir).unwrap();
        }
        let error = rename_new(&new, &taken).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        rename_new(&new, &free).unwrap();
        assert!(!new.exists() && taken.is_dir() && free.is_dir());
    }
}
