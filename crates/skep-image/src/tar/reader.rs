//! Reads tar streams member by member.

use std::io::{self, Read};

use super::{
    BLOCK,
    header::{Header, gnu_sparse_more},
    pax::Pax,
    sparse::{Sparse, parse_pairs},
};

/// Bytes of one long name, PAX header or sparse map; Go's reader has the same bound.
const MAX_SPECIAL: u64 = 1 << 20;

/// One member, without its data.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// As written: may be absolute, may climb.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    /// Bytes of data in the stream.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File(Option<Sparse>),
    /// To a path within the archive.
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Directory,
    Fifo,
}

/// Why a tar stream cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TarError {
    #[error("cannot read the tar stream")]
    Read(#[source] io::Error),
    #[error("malformed tar stream: {reason} at byte {offset}")]
    Malformed { offset: u64, reason: &'static str },
}

/// A tar stream.
pub(crate) struct Reader<R> {
    inner: R,
    offset: u64,
    /// Data of the present member not yet read.
    data: u64,
    /// Bytes that fill its last block.
    padding: u64,
    globals: Pax,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, offset: 0, data: 0, padding: 0, globals: Pax::default() }
    }

    /// Skips what is left of the present member and reads the next one. `None` at the end: two zero
    /// blocks, or the end of the stream between members.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let (mut own, mut long_path, mut long_link) = (Pax::default(), None, None);
        let mut pending = false;
        loop {
            self.skip()?;
            let Some(block) = self.header_block(pending)? else { return Ok(None) };
            let header = Header::new(&block).ok_or_else(|| self.bad("wrong header checksum"))?;
            let size = header.number(124, 12).and_then(|n| u64::try_from(n).ok());
            let size = size.ok_or_else(|| self.bad("wrong size"))?;
            match header.type_flag() {
                b'x' | b'X' => {
                    let bytes = self.special(size)?;
                    own.read(&bytes).ok_or_else(|| self.bad("wrong PAX header"))?;
                }
                b'g' => {
                    let bytes = self.special(size)?;
                    let mut globals = std::mem::take(&mut self.globals);
                    globals.read(&bytes).ok_or_else(|| self.bad("wrong PAX header"))?;
                    self.globals = globals;
                }
                b'L' => long_path = Some(until_nul(self.special(size)?)),
                b'K' => long_link = Some(until_nul(self.special(size)?)),
                flag => {
                    let pax = self.globals.with(own);
                    return self.member(&header, flag, size, &pax, long_path, long_link).map(Some);
                }
            }
            pending = true;
        }
    }

    /// The data of the present member, without holes.
    pub(crate) fn data(&mut self) -> impl Read + '_ {
        Data(self)
    }

    /// The stream beneath, at the end of the archive.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    fn member(
        &mut self,
        header: &Header<'_>,
        flag: u8,
        size: u64,
        pax: &Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let number = |key: &str, plain: Option<i64>| pax.number(key).unwrap_or(plain);
        let size = match pax.number("size") {
            Some(n) => {
                n.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| self.bad("wrong size"))?
            }
            None => size,
        };
        let own = |key: &str| pax.get(key).map(<[u8]>::to_vec);
        let mut path = own("path").or(long_path).unwrap_or_else(|| header.path());
        let link = own("linkpath").or(long_link).unwrap_or_else(|| header.link());
        let id = |value: Option<i64>| {
            // The kernel takes -1 for "leave as is".
            value.and_then(|n| u32::try_from(n).ok()).filter(|n| *n != u32::MAX)
        };
        let uid = id(number("uid", header.number(108, 8))).ok_or_else(|| self.bad("wrong uid"))?;
        let gid = id(number("gid", header.number(116, 8))).ok_or_else(|| self.bad("wrong gid"))?;
        let mode = header.number(100, 8).ok_or_else(|| self.bad("wrong mode"))?;
        let mtime = match pax.time("mtime") {
            Some(time) => time,
            None => header.number(136, 12).map(|seconds| (seconds, 0)),
        };
        let mtime = mtime.ok_or_else(|| self.bad("wrong time"))?;
        let has_data = matches!(flag, b'0' | 0 | b'7' | b'S');
        self.data = if has_data { size } else { 0 };
        // Other kinds have no data, whatever their size field says; archivers write the target's
        // size into hard links.
        self.padding = (BLOCK as u64 - self.data % BLOCK as u64) % BLOCK as u64;
        let device = |at| header.number(at, 8).and_then(|n| u32::try_from(n).ok());
        let kind = match flag {
            b'0' | 0 | b'7' if path.ends_with(b"/") && self.data == 0 => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File(self.pax_sparse(pax, &mut path)?),
            b'S' => EntryKind::File(Some(self.gnu_sparse(header)?)),
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' | b'4' => {
                let (Some(major), Some(minor)) = (device(329), device(337)) else {
                    return Err(self.bad("wrong device number"));
                };
                if flag == b'3' {
                    EntryKind::Char(major, minor)
                } else {
                    EntryKind::Block(major, minor)
                }
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            _ => return Err(self.bad("unknown member type")),
        };
        let linked = match &kind {
            EntryKind::HardLink(to) | EntryKind::Symlink(to) => to.is_empty() || to.contains(&0),
            _ => false,
        };
        if path.is_empty() || path.contains(&0) || linked {
            return Err(self.bad("empty name or NUL in a name"));
        }
        let mode = u32::try_from(mode & 0o7777).unwrap_or_default();
        let size = self.data;
        Ok(Entry { path, kind, mode, uid, gid, mtime, size, xattrs: pax.xattrs() })
    }

    fn gnu_sparse(&mut self, header: &Header<'_>) -> Result<Sparse, TarError> {
        let bad = self.bad("wrong sparse map");
        let Some((mut pairs, mut more, size)) = header.gnu_sparse() else { return Err(bad) };
        while more {
            let block =
                self.block()?.ok_or_else(|| self.bad("the stream ends within a sparse map"))?;
            let Some((next, again)) = gnu_sparse_more(&block) else { return Err(bad) };
            pairs.extend(next);
            more = again;
            if pairs.len() as u64 * 24 > MAX_SPECIAL {
                return Err(bad);
            }
        }
        Sparse::new(size, &pairs, self.data).ok_or(bad)
    }

    /// GNU sparse formats 0.0, 0.1 and 1.0, which hide in PAX records.
    fn pax_sparse(&mut self, pax: &Pax, path: &mut Vec<u8>) -> Result<Option<Sparse>, TarError> {
        let bad = self.bad("wrong sparse map");
        if let Some(name) = pax.get("GNU.sparse.name") {
            *path = name.to_vec();
        }
        let pairs = match (pax.get("GNU.sparse.major"), pax.get("GNU.sparse.map")) {
            (Some(b"1"), _) => self.sparse_map_in_data()?,
            (_, Some(map)) => match parse_pairs(map, b',') {
                Some(pairs) => pairs,
                None => return Err(bad),
            },
            _ if !pax.sparse_pairs.is_empty() => pax.sparse_pairs.clone(),
            _ => return Ok(None),
        };
        let size =
            pax.number("GNU.sparse.realsize").or_else(|| pax.number("GNU.sparse.size")).flatten();
        let Some(size) = size else { return Err(bad) };
        Sparse::new(size, &pairs, self.data).ok_or(bad).map(Some)
    }

    /// Format 1.0: decimal lines at the start of the data, filled to a block: count, then pairs.
    fn sparse_map_in_data(&mut self) -> Result<Vec<(i64, i64)>, TarError> {
        let mut text: Vec<u8> = Vec::new();
        loop {
            let lines = text.iter().filter(|b| **b == b'\n').count();
            let first = text.split(|b| *b == b'\n').next().unwrap_or_default();
            if lines > 0 {
                let count: Option<usize> =
                    std::str::from_utf8(first).ok().and_then(|n| n.parse().ok());
                let count = count
                    .filter(|n| *n as u64 <= MAX_SPECIAL)
                    .ok_or_else(|| self.bad("wrong sparse map"))?;
                if lines > count * 2 {
                    let numbers: Vec<&[u8]> =
                        text.split(|b| *b == b'\n').skip(1).take(count * 2).collect();
                    return parse_pairs(&numbers.join(&b'\n'), b'\n')
                        .ok_or_else(|| self.bad("wrong sparse map"));
                }
            }
            if self.data < BLOCK as u64 || text.len() as u64 > MAX_SPECIAL {
                return Err(self.bad("wrong sparse map"));
            }
            let block =
                self.block()?.ok_or_else(|| self.bad("the stream ends within a sparse map"))?;
            self.data -= BLOCK as u64;
            text.extend_from_slice(&block);
        }
    }

    /// The next header, or `None` at the end of the archive.
    fn header_block(&mut self, pending: bool) -> Result<Option<[u8; BLOCK]>, TarError> {
        match self.block()? {
            Some(block) if block.iter().any(|b| *b != 0) => return Ok(Some(block)),
            _ if pending => return Err(self.bad("the stream ends after an extended header")),
            None => return Ok(None),
            Some(_) => {}
        }
        match self.block()? {
            Some(block) if block.iter().any(|b| *b != 0) => Err(self.bad("a lone zero block")),
            _ => Ok(None),
        }
    }

    /// One whole block; `None` if the stream ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.bad("the stream ends within a block")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TarError::Read(e)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// The payload of an extended header.
    fn special(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_SPECIAL {
            return Err(self.bad("an extended header of more than 1 MiB"));
        }
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let mut bytes = Vec::new();
        self.data().read_to_end(&mut bytes).map_err(TarError::Read)?;
        Ok(bytes)
    }

    fn skip(&mut self) -> Result<(), TarError> {
        io::copy(&mut self.data(), &mut io::sink()).map_err(TarError::Read)?;
        let padding = std::mem::take(&mut self.padding);
        let skipped = io::copy(&mut (&mut self.inner).take(padding), &mut io::sink())
            .map_err(TarError::Read)?;
        self.offset += skipped;
        // Some writers leave out the filling of the very last member.
        Ok(())
    }

    fn bad(&self, reason: &'static str) -> TarError {
        TarError::Malformed { offset: self.offset, reason }
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

struct Data<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.0.data).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.0.inner.read(&mut buf[..want])?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the tar stream ends within a member",
            ));
        }
        self.0.data -= n as u64;
        self.0.offset += n as u64;
        Ok(n)
    }
}
