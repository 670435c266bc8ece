//! Settings below `/proc/sys`. Which namespace's they are is decided by the thread
//! that opens them.

use crate::error::{NetError, Result};
use skep_sys::files::KernelDir;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const SETTINGS: &str = "/proc/sys";
/// How many parts of a name all namespaces have, such as `net/ipv4`. The kernel finds the last of them among those of
/// all namespaces, so it is looked for once.
const SHARED: usize = 2;

/// Writes those that differ, in the calling thread's namespace. A setting that this
/// kernel does not have is passed over: bridge filtering, for one, may be missing,
/// and then needs no switching off.
pub fn apply<'a>(settings: impl IntoIterator<Item = &'a (String, String)>) -> Result<usize> {
    let mut changed = 0;
    let mut dirs = BTreeMap::<PathBuf, Option<KernelDir>>::new();
    for (name, value) in settings {
        let shared: PathBuf = Path::new(name).components().take(SHARED).collect();
        let rest = Path::new(name).strip_prefix(&shared).unwrap_or(Path::new(name));
        let dir = match dirs.get(&shared) {
            Some(dir) => dir,
            None => {
                let dir = folder(&shared)?;
                dirs.entry(shared).or_insert(dir)
            }
        };
        if let Some(dir) = dir {
            changed += set(dir, rest, value)?;
        }
    }
    Ok(changed)
}

/// A folder of the calling thread's namespace, to change settings in it from anywhere; `None` if this kernel does not
/// have it.
pub fn folder(name: impl AsRef<Path>) -> Result<Option<KernelDir>> {
    let path = Path::new(SETTINGS).join(name);
    found(KernelDir::open(&path)).map_err(|source| NetError::File { action: "open", path, source })
}

/// The same for one setting of a folder.
pub fn set(folder: &KernelDir, name: impl AsRef<Path>, value: &str) -> Result<usize> {
    let name = name.as_ref();
    let set = found(folder.set(name, value)).map_err(|source| NetError::File {
        action: "set",
        path: name.to_owned(),
        source,
    })?;
    Ok(usize::from(set == Some(true)))
}

/// `None` for what is not there.
fn found<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a setting is of one interface, and there only with it.
pub fn is_of_interface((name, _): &(String, String)) -> bool {
    let interface = name.split_once("/conf/").and_then(|(_, rest)| rest.split('/').next());
    interface.is_some_and(|name| !matches!(name, "all" | "default"))
}
