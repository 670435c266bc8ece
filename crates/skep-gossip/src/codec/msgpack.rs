use crate::counters::DropCause;

type Result<T> = std::result::Result<T, DropCause>;

/// Deepest nesting that [`Reader::skip`] follows in a value of an unknown key.
const MAX_SKIP_DEPTH: usize = 8;

/// Reads msgpack as Go's codec of the old flavour does: strings and bytes are one kind, unsigned
/// numbers pass where signed ones are declared, and the newer string and binary kinds pass too.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = self.rest();
        let taken = rest.get(..len).ok_or(DropCause::Truncated)?;
        self.at += len;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn peek(&self) -> Result<u8> {
        self.rest().first().copied().ok_or(DropCause::Truncated)
    }

    /// A big-endian number of `len` bytes, at most 8.
    fn number(&mut self, len: usize) -> Result<u64> {
        Ok(self.take(len)?.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)))
    }

    fn len(&mut self, width: usize) -> Result<usize> {
        usize::try_from(self.number(width)?).map_err(|_| DropCause::TooLarge)
    }

    /// A map: `field` is called with each key and must read or skip the value.
    pub(crate) fn map(
        &mut self,
        mut field: impl FnMut(&[u8], &mut Self) -> Result<()>,
    ) -> Result<()> {
        let pairs = match self.byte()? {
            kind @ 0x80..=0x8f => usize::from(kind & 0x0f),
            0xde => self.len(2)?,
            0xdf => self.len(4)?,
            _ => return Err(DropCause::Malformed),
        };
        for _ in 0..pairs {
            let key = self.raw()?;
            field(key, self)?;
        }
        Ok(())
    }

    /// Bytes or text; nil is empty.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8]> {
        let len = match self.byte()? {
            kind @ 0xa0..=0xbf => usize::from(kind & 0x1f),
            0xc0 => 0,
            0xc4 | 0xd9 => self.len(1)?,
            0xc5 | 0xda => self.len(2)?,
            0xc6 | 0xdb => self.len(4)?,
            _ => return Err(DropCause::Malformed),
        };
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.raw()?).map_err(|_| DropCause::Malformed)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0xc2 | 0xc0 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(DropCause::Malformed),
        }
    }

    /// A whole number that must be at least zero and fit.
    pub(crate) fn unsigned<T: TryFrom<u64>>(&mut self) -> Result<T> {
        let value = match self.byte()? {
            kind @ 0..=0x7f => u64::from(kind),
            0xc0 => 0,
            0xcc => self.number(1)?,
            0xcd => self.number(2)?,
            0xce => self.number(4)?,
            0xcf => self.number(8)?,
            kind @ 0xd0..=0xd3 => {
                let len = 1 << (kind - 0xd0);
                let value = self.number(len)?;
                if value >> (8 * len - 1) != 0 {
                    return Err(DropCause::Malformed);
                }
                value
            }
            _ => return Err(DropCause::Malformed),
        };
        T::try_from(value).map_err(|_| DropCause::Malformed)
    }

    /// Passes over one value of any kind.
    pub(crate) fn skip(&mut self) -> Result<()> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Result<()> {
        if depth > MAX_SKIP_DEPTH {
            return Err(DropCause::TooDeep);
        }
        let values = match self.peek()? {
            0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb => return self.raw().map(|_| ()),
            kind => {
                self.at += 1;
                match kind {
                    0..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 0,
                    0x80..=0x8f => 2 * usize::from(kind & 0x0f),
                    0x90..=0x9f => usize::from(kind & 0x0f),
                    0xca | 0xce | 0xd2 => return self.take(4).map(|_| ()),
                    0xcb | 0xcf | 0xd3 => return self.take(8).map(|_| ()),
                    0xcc | 0xd0 => return self.take(1).map(|_| ()),
                    0xcd | 0xd1 => return self.take(2).map(|_| ()),
                    0xdc => self.len(2)?,
                    0xdd => self.len(4)?,
                    0xde => self.len(2)?.saturating_mul(2),
                    0xdf => self.len(4)?.saturating_mul(2),
                    _ => return Err(DropCause::Malformed),
                }
            }
        };
        // Each value takes at least one byte, so a huge count ends at the end of the bytes.
        for _ in 0..values {
            self.skip_at(depth + 1)?;
        }
        Ok(())
    }
}

/// Writes the same flavour: never the newer string and binary kinds.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Begins a map of `pairs` pairs; no message of ours has more than 15.
    pub(crate) fn map(&mut self, pairs: u8) {
        assert!(pairs <= 15, "a message of memberlist has at most 15 fields");
        self.bytes.push(0x80 | pairs);
    }

    pub(crate) fn raw(&mut self, value: &[u8]) {
        let len = value.len();
        if let Ok(short) = u8::try_from(len)
            && short < 32
        {
            self.bytes.push(0xa0 | short);
        } else if let Ok(len) = u16::try_from(len) {
            self.bytes.push(0xda);
            self.bytes.extend(len.to_be_bytes());
        } else {
            // Streams are at most 20 MiB, so the length always fits.
            self.bytes.push(0xdb);
            self.bytes.extend((len as u32).to_be_bytes());
        }
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    pub(crate) fn unsigned(&mut self, value: u32) {
        match value {
            0..=0x7f => self.bytes.push(value as u8),
            0x80..=0xff => self.bytes.extend([0xcc, value as u8]),
            0x100..=0xffff => {
                self.bytes.push(0xcd);
                self.bytes.extend((value as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(0xce);
                self.bytes.extend(value.to_be_bytes());
            }
        }
    }

    /// A number that Go declares signed: wide ones travel as signed kinds.
    pub(crate) fn signed(&mut self, value: usize) {
        match value {
            0..=0x7f => self.bytes.push(value as u8),
            0x80..=0x7fff => {
                self.bytes.push(0xd1);
                self.bytes.extend((value as i16).to_be_bytes());
            }
            0x8000..=0x7fff_ffff => {
                self.bytes.push(0xd2);
                self.bytes.extend((value as i32).to_be_bytes());
            }
            _ => {
                self.bytes.push(0xd3);
                self.bytes.extend((value as i64).to_be_bytes());
            }
        }
    }
}
