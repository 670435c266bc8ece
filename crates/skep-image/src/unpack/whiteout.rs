//! `.wh.` entries of layers, in overlayfs's form.
//!
//! Source: OCI image specification, "Whiteouts"; Linux, `Documentation/filesystems/overlayfs.rst`.
//! A whiteout hides what lower layers have under a name, never what its own layer has, wherever in
//! the stream it stands.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, XattrFlags, lsetxattr, mknodat},
    io::Errno,
};

use super::{
    error::UnpackError,
    tree::{Place, Tree, entry as invalid, failed},
};

const PREFIX: &[u8] = b".wh.";
/// Prefix of AUFS's own files; only this one still means something.
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What a `.wh.` entry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout {
    /// Hide this path.
    Hide(PathBuf),
    /// Hide everything in this folder that comes from lower layers.
    Opaque(PathBuf),
    /// Bookkeeping of AUFS.
    Ignore,
}

/// Reads a member's name. `None` for ordinary members.
pub(super) fn of(path: &Path) -> Result<Option<Whiteout>, UnpackError> {
    if path.components().any(|c| c.as_os_str().as_bytes().starts_with(META))
        && path.file_name().map(OsStr::as_bytes) != Some(OPAQUE)
    {
        return Ok(Some(Whiteout::Ignore));
    }
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Ok(None) };
    let Some(hidden) = name.as_bytes().strip_prefix(PREFIX) else { return Ok(None) };
    if name.as_bytes() == OPAQUE {
        return Ok(Some(Whiteout::Opaque(parent.into())));
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(invalid(path, "a whiteout of nothing"));
    }
    Ok(Some(Whiteout::Hide(parent.join(OsStr::from_bytes(hidden)))))
}

pub(super) fn make(
    tree: &mut Tree<'_>,
    path: &Path,
    whiteout: Whiteout,
) -> Result<(), UnpackError> {
    match whiteout {
        Whiteout::Ignore => {
            tracing::debug!(path = %path.display(), "AUFS bookkeeping skipped");
            Ok(())
        }
        Whiteout::Opaque(folder) => {
            // The folder's own member may come later or not at all.
            let inside = tree.place(&folder.join("any"))?;
            set_opaque(&Place { dir: inside.dir, name: c".".into(), path: folder })
        }
        Whiteout::Hide(hidden) => {
            let place = tree.place(&hidden)?;
            match mknodat(&*place.dir, &place.name, FileType::CharacterDevice, Mode::empty(), 0) {
                Ok(()) => Ok(()),
                // The same layer has the name: what it has stays, only what is below goes.
                Err(Errno::EXIST) if place.is_folder() => set_opaque(&place),
                Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(failed("make whiteout", &place.path)(errno)),
            }
        }
    }
}

pub(super) fn set_opaque(place: &Place) -> Result<(), UnpackError> {
    lsetxattr(place.by_descriptor(), OPAQUE_XATTR, b"y", XattrFlags::empty())
        .map_err(failed("make opaque", &place.path))
}

pub(super) fn is_one(place: &Place) -> bool {
    place.stat().is_some_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let of = |p: &str| super::of(Path::new(p));
        assert_eq!(of("a/b").unwrap(), None);
        assert_eq!(of("a/.wh.b").unwrap(), Some(Whiteout::Hide("a/b".into())));
        assert_eq!(of(".wh.b").unwrap(), Some(Whiteout::Hide("b".into())));
        assert_eq!(of("a/.wh..wh..opq").unwrap(), Some(Whiteout::Opaque("a".into())));
        assert_eq!(of(".wh..wh.plnk/1.2").unwrap(), Some(Whiteout::Ignore));
        for bad in ["a/.wh.", "a/.wh..", "a/.wh..."] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
