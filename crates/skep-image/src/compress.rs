//! Compression by what the bytes say, never by name or media type.

use std::io::{self, Cursor, Read};

use crate::error::ArchiveError;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

/// Longest magic number looked at.
const MAGIC: usize = 6;

/// What a decoder may take, KiB: a window of 128 MiB, twice that of `xz -9`, and what goes with it.
const XZ_MEMORY: u32 = 129 << 10;

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

impl Compression {
    /// # Errors
    /// [`ArchiveError::Compression`] for formats that are known but not read.
    pub(crate) fn detect(start: &[u8]) -> Result<Self, ArchiveError> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A frame, or a skippable frame (0x184D2A50 to 5F) before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Ok(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::Xz),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err(ArchiveError::Compression("lz4")),
            _ => Ok(Self::None),
        }
    }

    /// The media type of a layer compressed like this; registries know none for some.
    pub(crate) fn layer_media_type(self) -> Option<&'static str> {
        use crate::manifest::media_type::*;
        match self {
            Self::None => Some(OCI_LAYER),
            Self::Gzip => Some(DOCKER_LAYER_GZIP),
            Self::Zstd => Some(OCI_LAYER_ZSTD),
            Self::Bzip2 | Self::Xz => None,
        }
    }
}

/// A reader of the uncompressed bytes.
///
/// A truncated stream ends in an error, never in a silent end. zstd windows above 128 MiB (the
/// decoder's default) are refused, and of xz likewise, which bounds memory; bzip2 needs 4 MiB at most.
pub(crate) fn decoder<'a, R: Read + Send + 'a>(
    mut reader: R,
) -> Result<(Compression, Box<dyn Read + Send + 'a>), ArchiveError> {
    let mut magic = Vec::with_capacity(MAGIC);
    (&mut reader).take(MAGIC as u64).read_to_end(&mut magic).map_err(ArchiveError::Read)?;
    let compression = Compression::detect(&magic)?;
    let whole = Cursor::new(magic).chain(reader);
    let decoder: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(buffered(whole))),
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(buffered(whole))),
        Compression::Xz => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(buffered(whole), true, XZ_MEMORY))
        }
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::new(whole).map_err(ArchiveError::Read)?)
        }
    };
    Ok((compression, decoder))
}

fn buffered<R: Read>(reader: R) -> io::BufReader<R> {
    io::BufReader::with_capacity(BUFFER, reader)
}

/// Fails once more than `limit` bytes came out: a bomb stops before it fills the disk.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the content unpacks to more than the configured limit",
            )
        })?;
        Ok(n)
    }
}
