//! A file or a tree as tar.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use tar::{Builder, EntryType, Header};

use super::{Found, kind};

/// Writes what was found, under its own name.
///
/// # Errors
/// When reading or writing fails. Files that vanish meanwhile are left out.
pub fn tree(found: &Found, out: &mut dyn Write) -> io::Result<()> {
    let mut packer = Packer { builder: Builder::new(out), links: HashMap::new() };
    packer.entry(found.parent.as_fd(), OsStr::new(&found.entry), Path::new(&found.name))?;
    packer.builder.finish()
}

struct Packer<'a> {
    builder: Builder<&'a mut dyn Write>,
    /// Where a file with several names was written first.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Packer<'_> {
    fn entry(&mut self, parent: BorrowedFd<'_>, entry: &OsStr, name: &Path) -> io::Result<()> {
        let stat = fstatat(parent, entry, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let mut header = header_of(&stat);
        match kind(&stat) {
            SFlag::S_IFDIR => self.directory(parent, entry, name, header),
            SFlag::S_IFREG => self.file(parent, entry, name),
            SFlag::S_IFLNK => {
                let target = readlinkat(parent, entry)?;
                header.set_entry_type(EntryType::Symlink);
                self.builder.append_link(&mut header, name, Path::new(&target))
            }
            // Sockets have no place in an archive.
            SFlag::S_IFSOCK => Ok(()),
            other => {
                header.set_entry_type(match other {
                    SFlag::S_IFCHR => EntryType::Char,
                    SFlag::S_IFBLK => EntryType::Block,
                    _ => EntryType::Fifo,
                });
                let number = |n: u64| u32::try_from(n).unwrap_or(0);
                header.set_device_major(number(major(stat.st_rdev)))?;
                header.set_device_minor(number(minor(stat.st_rdev)))?;
                self.builder.append_data(&mut header, name, io::empty())
            }
        }
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        entry: &OsStr,
        name: &Path,
        mut header: Header,
    ) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(parent, entry, flags, Mode::empty())?;
        header.set_entry_type(EntryType::Directory);
        let mut shown = name.as_os_str().to_owned();
        shown.push("/");
        self.builder.append_data(&mut header, Path::new(&shown), io::empty())?;
        let mut names: Vec<OsString> = Vec::new();
        let mut dir = Dir::from_fd(fd.try_clone()?)?;
        for child in dir.iter() {
            let child = OsStr::from_bytes(child?.file_name().to_bytes()).to_owned();
            if child != "." && child != ".." {
                names.push(child);
            }
        }
        names.sort();
        for child in names {
            match self.entry(fd.as_fd(), &child, &name.join(&child)) {
                // Gone since the folder was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn file(&mut self, parent: BorrowedFd<'_>, entry: &OsStr, name: &Path) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(parent, entry, flags, Mode::empty())?);
        let stat = fstat(&file)?;
        let mut header = header_of(&stat);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self.builder.append_link(&mut header, name, first.clone());
            }
            self.links.insert((stat.st_dev, stat.st_ino), name.to_owned());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        // The file may shrink or grow while it is read; the archive keeps its shape.
        let content = file.chain(io::repeat(0)).take(size);
        self.builder.append_data(&mut header, name, content)
    }
}

fn header_of(stat: &FileStat) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header
}
