//! The kernel's list of mounts, `proc_pid_mountinfo(5)`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// A mount, as far as anybody here asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which folder of its file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Type of the file system, such as `tmpfs`.
    pub kind: String,
    /// Options of the file system.
    pub options: Vec<String>,
}

/// The mounts that the calling thread sees, in the kernel's order.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// Reads the list; a line of another shape is left out.
pub fn parse(list: &[u8]) -> Vec<Mount> {
    list.split(|b| *b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    // Between the first six fields and the last three stand as many as the mount has to say.
    let end = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let text = |at: usize| Some(String::from_utf8_lossy(&decoded(fields.get(at)?)).into_owned());
    Some(Mount {
        root: OsString::from_vec(decoded(fields.get(3)?)).into(),
        point: OsString::from_vec(decoded(fields.get(4)?)).into(),
        kind: text(end + 1)?,
        options: text(end + 3)?.split(',').map(str::to_owned).collect(),
    })
}

/// Blanks, tabs, newlines and backslashes are in it as `\\` and three octal digits (`mangle()` in fs/seq_file.c).
fn decoded(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let code = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        out.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::apart;
    use nix::mount::{MsFlags, mount};

    #[test]
    fn names_are_as_they_were_given() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&all), all);
        for (field, name) in [
            (&b"/a\\040b"[..], &b"/a b"[..]),
            (b"\\011\\012\\134040", b"\t\n\\040"),
            (b"\\", b"\\"),
            (b"\\04", b"\\04"),
            (b"\\048\\400", b"\\048\\400"),
            (b"\\377", b"\xff"),
        ] {
            assert_eq!(decoded(field), name, "{}", String::from_utf8_lossy(field));
        }
    }

    #[test]
    fn lines_with_and_without_optional_fields() {
        let list = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:3 - ext3 /dev/root rw,errors=continue\n\
            37 35 0:5 / /sp\\040ace rw - tmpfs - rw\nnonsense\n1 2 3 / /x rw - tmpfs\n";
        let found = parse(list);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].root, PathBuf::from("/mnt1"));
        assert_eq!((found[0].kind.as_str(), found[0].options.len()), ("ext3", 2));
        assert_eq!(found[1].point, PathBuf::from("/sp ace"));
        assert_eq!(found[1].kind, "tmpfs");
    }

    #[test]
    fn a_mount_is_found_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["plain", "a blank", "a\ttab", "a\nline", "a\\040slash", "#hash", "\u{fc}"];
        let found = apart(|| {
            for name in names {
                let at = dir.path().join(name);
                std::fs::create_dir(&at)?;
                mount(Some("t"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            }
            mounts()
        })
        .unwrap();
        for name in names {
            assert!(found.iter().any(|mount| mount.point == dir.path().join(name)), "{name:?}");
        }
    }
}
