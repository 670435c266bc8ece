//! Settings below `/proc/sys`. Which namespace's they are is decided by the thread
//! that opens them.

use crate::error::{NetError, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Writes those that differ, in the calling thread's namespace. A setting that this
/// kernel does not have is passed over: bridge filtering, for one, may be missing,
/// and then needs no switching off.
pub fn apply(settings: &[(String, String)]) -> Result<usize> {
    let mut changed = 0;
    for (name, value) in settings {
        let path = Path::new("/proc/sys").join(name);
        match fs::read_to_string(&path) {
            Ok(current) if current.trim() == value => continue,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(NetError::File { action: "read", path, source }),
        }
        skep_sys::files::set_kernel(&path, value).map_err(|source| NetError::File {
            action: "write",
            path,
            source,
        })?;
        changed += 1;
    }
    Ok(changed)
}
