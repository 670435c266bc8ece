//! A tree as a tar stream.
//!
//! The tree may be a live container's: it is walked by descriptors that never follow symlinks, and a
//! file that changes size while it is read is cut or filled to the size announced. Of file systems in which the
//! kernel shows itself (`/proc`, `/sys`) only the folder is packed that they are mounted on.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, lgetxattr, llistxattr,
        major, minor, openat, readlinkat, statat,
    },
    io::Errno,
};
use skep_sys::files::{Visit, Walk, is_kernels, open_file};

use super::BLOCK;

/// Longest name in a stream: what the kernel takes as a path, so that the other side can unpack it. It also
/// bounds what names in deeply nested folders cost.
pub(crate) const MAX_PATH: usize = 4095;
const OPAQUE: &[u8] = b".wh..wh..opq";

/// How a tree is packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Turn overlayfs whiteouts and opaque folders into `.wh.` entries, for an upper directory.
    pub whiteouts: bool,
    /// Put this before every name, such as `etc`; the tree's root itself is then an entry.
    pub prefix: Option<PathBuf>,
    /// Give everything to this user and group.
    pub owner: Option<(u32, u32)>,
    /// Of folders on these devices (`st_dev`) the content is left out.
    pub empty: Vec<u64>,
}

/// Writes the content of the folder `tree` as a tar stream, names sorted, ended by two zero blocks.
/// Sockets are left out. Blocking.
///
/// # Errors
/// Those of reading the tree and of `writer`.
pub fn pack(tree: &Path, writer: &mut dyn Write, options: &PackOptions) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(tree, flags, Mode::empty())?;
    let mut packer = Packer::new(writer, options);
    if let Some(prefix) = &options.prefix {
        packer.folder_entry(root.as_fd(), prefix)?;
    }
    packer.content(root, options.prefix.clone().unwrap_or_default())?;
    finish(packer.writer)
}

/// Writes `entry` of the open folder `dir`, of whatever kind, as a tar stream in which it is called `name`;
/// a folder with all its content. `.` is the folder itself. Nothing is followed. Blocking.
///
/// # Errors
/// Those of reading the tree and of `writer`; `ErrorKind::NotFound` if there is no such entry.
pub fn pack_entry(
    dir: BorrowedFd<'_>,
    entry: &CStr,
    name: &Path,
    writer: &mut dyn Write,
    options: &PackOptions,
) -> io::Result<()> {
    let mut packer = Packer::new(writer, options);
    let stat = statat(dir, entry, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(dir, entry, flags, Mode::empty())?;
        if packer.folder_entry(folder.as_fd(), name)? {
            // What is in `./` is called by its own name.
            let below = if name == Path::new(".") { PathBuf::new() } else { name.to_owned() };
            packer.content(folder, below)?;
        }
    } else {
        packer.entry(dir, entry, name, &stat)?;
    }
    finish(packer.writer)
}

/// The beginning of a path in the tree that is longer than a stream can name. Blocking.
pub(crate) fn too_deep(tree: OwnedFd) -> io::Result<Option<String>> {
    let (mut walk, mut path) = (Walk::new(tree)?, PathBuf::from("/"));
    while let Some(visit) = walk.step()? {
        match visit {
            Visit::Entry(name, stat) => {
                let child = path.join(OsStr::from_bytes(name.to_bytes()));
                // Names in a stream have no leading slash.
                if child.as_os_str().len() > MAX_PATH + 1 {
                    return Ok(Some(child.to_string_lossy().chars().take(80).collect()));
                }
                let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if folder && walk.enter(&name)? {
                    path = child;
                }
            }
            Visit::Leave => drop(path.pop()),
        }
    }
    Ok(None)
}

/// The end of every tar stream.
pub(crate) fn finish(writer: &mut dyn Write) -> io::Result<()> {
    writer.write_all(&[0; 2 * BLOCK])
}

struct Packer<'a> {
    writer: &'a mut dyn Write,
    options: &'a PackOptions,
    /// Where files with several names were written first.
    links: HashMap<(u64, u64), PathBuf>,
    /// Of which devices the content is packed.
    devices: HashMap<u64, bool>,
}

impl<'a> Packer<'a> {
    fn new(writer: &'a mut dyn Write, options: &'a PackOptions) -> Self {
        let devices = options.empty.iter().map(|device| (*device, false)).collect();
        Self { writer, options, links: HashMap::new(), devices }
    }

    /// Everything in a folder whose name is `path`.
    fn content(&mut self, top: OwnedFd, mut path: PathBuf) -> io::Result<()> {
        let mut walk = Walk::new(top)?;
        while let Some(visit) = walk.step()? {
            match visit {
                Visit::Entry(name, stat) => {
                    let child = path.join(OsStr::from_bytes(name.to_bytes()));
                    if child.as_os_str().len() > MAX_PATH {
                        let shown: String = child.to_string_lossy().chars().take(80).collect();
                        return Err(io::Error::other(format!("{shown}... is nested too deeply")));
                    }
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        self.entry(walk.here(), &name, &child, &stat)?;
                    } else if walk.enter(&name)? {
                        if !self.folder_entry(walk.here(), &child)? {
                            walk.skip();
                        }
                        path = child;
                    }
                }
                Visit::Leave => drop(path.pop()),
            }
        }
        Ok(())
    }

    /// Anything but a folder.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        stat: &Stat,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::CharacterDevice if self.options.whiteouts && stat.st_rdev == 0 => {
                let hidden = [b".wh.", name.to_bytes()].concat();
                let path = path.with_file_name(OsStr::from_bytes(&hidden));
                return self.header(
                    &path,
                    b'0',
                    &Meta { size: 0, ..Meta::new(stat, self.options) },
                    &[],
                    &[],
                );
            }
            FileType::Socket | FileType::Unknown => return Ok(()),
            _ => {}
        }
        let meta = Meta::new(stat, self.options);
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let first = first.clone();
                return self.header(path, b'1', &meta, first.as_os_str().as_bytes(), &[]);
            }
            self.links.insert(inode, path.into());
        }
        let xattrs = || Source::named(dir, name).read();
        match kind {
            FileType::RegularFile => self.file(dir, name, path, meta),
            FileType::Symlink => {
                let Some(target) = gone(readlinkat(dir, name, Vec::new()))? else { return Ok(()) };
                self.header(path, b'2', &meta, target.as_bytes(), &xattrs()?)
            }
            FileType::Fifo => self.header(path, b'6', &meta, &[], &xattrs()?),
            FileType::CharacterDevice => self.header(path, b'3', &meta, &[], &xattrs()?),
            FileType::BlockDevice => self.header(path, b'4', &meta, &[], &xattrs()?),
            _ => Ok(()),
        }
    }

    /// A folder itself. Whether its content is to be packed.
    fn folder_entry(&mut self, fd: BorrowedFd<'_>, path: &Path) -> io::Result<bool> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        name.push(b'/');
        let xattrs = Source::Open(fd).read()?;
        let stat = fstat(fd)?;
        let meta = Meta::new(&stat, self.options);
        self.header(Path::new(OsStr::from_bytes(&name)), b'5', &meta, &[], &xattrs)?;
        if self.options.whiteouts && is_opaque(fd) {
            self.header(&path.join(OsStr::from_bytes(OPAQUE)), b'0', &meta, &[], &[])?;
        }
        if let Some(packed) = self.devices.get(&stat.st_dev) {
            return Ok(*packed);
        }
        let packed = !is_kernels(fd)?;
        self.devices.insert(stat.st_dev, packed);
        Ok(packed)
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        meta: Meta,
    ) -> io::Result<()> {
        let Some(fd) = open_file(dir, name)? else { return Ok(()) };
        let stat = fstat(&fd)?;
        let xattrs = Source::Open(fd.as_fd()).read()?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.header(path, b'0', &Meta { size, ..meta }, &[], &xattrs)?;
        let copied = io::copy(&mut File::from(fd).take(size), self.writer)?;
        let missing = (size - copied) + (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        io::copy(&mut io::repeat(0).take(missing), self.writer)?;
        Ok(())
    }

    fn header(
        &mut self,
        path: &Path,
        kind: u8,
        meta: &Meta,
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> io::Result<()> {
        write_header(self.writer, path.as_os_str().as_bytes(), kind, meta, link, xattrs)
    }
}

/// What a header says besides names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Whole seconds: what Docker puts into layers.
    pub(crate) mtime: i64,
    pub(crate) device: (u32, u32),
}

impl Meta {
    fn new(stat: &Stat, options: &PackOptions) -> Self {
        let (uid, gid) = options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let kind = FileType::from_raw_mode(stat.st_mode);
        let device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        Self {
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            size: 0,
            mtime: stat.st_mtime.cast_signed_or_same(),
            device: if device { (major(stat.st_rdev), minor(stat.st_rdev)) } else { (0, 0) },
        }
    }
}

/// `st_mtime` is signed on some architectures and unsigned on others.
trait CastSigned {
    fn cast_signed_or_same(self) -> i64;
}

impl CastSigned for i64 {
    fn cast_signed_or_same(self) -> i64 {
        self
    }
}

impl CastSigned for u64 {
    fn cast_signed_or_same(self) -> i64 {
        self.cast_signed()
    }
}

/// Writes a header and, where the plain one cannot hold everything, a PAX header before it.
pub(crate) fn write_header(
    writer: &mut dyn Write,
    path: &[u8],
    kind: u8,
    meta: &Meta,
    link: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> io::Result<()> {
    const OCTAL_7: u64 = 0o7_777_777;
    const OCTAL_11: u64 = 0o77_777_777_777;
    let mut pax = Vec::new();
    if path.len() > 100 || !path.is_ascii() {
        pax_record(&mut pax, b"path", path);
    }
    if link.len() > 100 || !link.is_ascii() {
        pax_record(&mut pax, b"linkpath", link);
    }
    for (key, value, limit) in [
        ("uid", u64::from(meta.uid), OCTAL_7),
        ("gid", u64::from(meta.gid), OCTAL_7),
        ("size", meta.size, OCTAL_11),
    ] {
        if value > limit {
            pax_record(&mut pax, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let mtime = u64::try_from(meta.mtime).ok().filter(|t| *t <= OCTAL_11);
    if mtime.is_none() {
        pax_record(&mut pax, b"mtime", meta.mtime.to_string().as_bytes());
    }
    for (name, value) in xattrs {
        pax_record(&mut pax, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    if !pax.is_empty() {
        let meta = Meta { mode: 0o644, size: pax.len() as u64, ..Meta::default() };
        raw_header(writer, b"PaxHeaders.0/entry", b'x', &meta, 0, b"")?;
        writer.write_all(&pax)?;
        writer.write_all(&vec![0; (BLOCK - pax.len() % BLOCK) % BLOCK])?;
    }
    raw_header(writer, path, kind, meta, mtime.unwrap_or(0), link)
}

fn raw_header(
    writer: &mut dyn Write,
    path: &[u8],
    kind: u8,
    meta: &Meta,
    mtime: u64,
    link: &[u8],
) -> io::Result<()> {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    // Too large a number is in the PAX header; the field then keeps what fits.
    let octal = |value: u64, digits: usize| {
        let text = format!("{value:0digits$o}");
        text[text.len() - digits..].to_owned()
    };
    put(0, &path[..path.len().min(100)]);
    put(100, octal(u64::from(meta.mode), 7).as_bytes());
    put(108, octal(u64::from(meta.uid), 7).as_bytes());
    put(116, octal(u64::from(meta.gid), 7).as_bytes());
    put(124, octal(meta.size, 11).as_bytes());
    put(136, octal(mtime, 11).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, octal(u64::from(meta.device.0), 7).as_bytes());
    put(337, octal(u64::from(meta.device.1), 7).as_bytes());
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    writer.write_all(&block)
}

/// The length counts itself.
fn pax_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Overlayfs takes the folder as hiding everything below.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0; 2];
    matches!(fgetxattr(dir, "trusted.overlay.opaque", &mut value[..]), Ok(1) if value[0] == b'y')
}

/// Where extended attributes are read from, without following links.
enum Source<'a> {
    Open(BorrowedFd<'a>),
    /// For what cannot be opened: symlinks, devices.
    Path(PathBuf),
}

impl Source<'_> {
    fn named(dir: BorrowedFd<'_>, name: &CStr) -> Self {
        Self::Path(
            PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
                .join(OsStr::from_bytes(name.to_bytes())),
        )
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => flistxattr(fd, buffer),
            Self::Path(path) => llistxattr(path, buffer),
        }
    }

    fn get(&self, name: &OsStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, buffer),
            Self::Path(path) => lgetxattr(path, name, buffer),
        }
    }

    /// The attributes that belong to content; see the unpacking side.
    fn read(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        for name in sized(|buffer| self.list(buffer))?.unwrap_or_default().split(|b| *b == 0) {
            if !(name.starts_with(b"user.") || name == b"security.capability") {
                continue;
            }
            if let Some(value) = sized(|buffer| self.get(OsStr::from_bytes(name), buffer))? {
                found.push((name.to_vec(), value));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Calls with a buffer that grows until it is large enough; the kernel's bound is 64 KiB. `None` for
/// what is not there.
fn sized(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < 64 << 10 => buffer = vec![0; 64 << 10],
            Err(Errno::NODATA | Errno::NOENT | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What vanished or was replaced meanwhile is left out.
fn gone<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
