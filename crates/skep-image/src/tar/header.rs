//! The 512 bytes before each member.

use super::BLOCK;

/// Pieces of a sparse file: offset and length.
type Pairs = Vec<(i64, i64)>;

/// A raw header block whose checksum is right.
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// `None` if the checksum is wrong. Historic writers summed signed bytes; both are accepted.
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Option<Self> {
        let header = Self(block);
        let want = header.number(148, 8)?;
        let field = |i: usize| (148..156).contains(&i);
        let unsigned: i64 =
            block.iter().enumerate().map(|(i, b)| if field(i) { 32 } else { i64::from(*b) }).sum();
        let signed: i64 = block
            .iter()
            .enumerate()
            .map(|(i, b)| if field(i) { 32 } else { i64::from(b.cast_signed()) })
            .sum();
        (want == unsigned || want == signed).then_some(header)
    }

    /// A number in octal, or in base 256 if the first bit is set. Empty is 0.
    pub(super) fn number(&self, at: usize, len: usize) -> Option<i64> {
        let field = &self.0[at..at + len];
        if field[0] & 0x80 != 0 {
            let negative = field[0] & 0x40 != 0;
            let mut value: i128 = if negative { -1 } else { 0 };
            for (i, byte) in field.iter().enumerate() {
                let byte = match (i, negative) {
                    (0, false) => byte & 0x7f,
                    (0, true) => byte | 0x80,
                    _ => *byte,
                };
                value = value.checked_shl(8)? | i128::from(byte);
                i64::try_from(value).ok()?;
            }
            return i64::try_from(value).ok();
        }
        let text = std::str::from_utf8(field).ok()?;
        let text = text.trim_matches([' ', '\0']);
        if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
    }

    /// Bytes up to the first NUL.
    pub(super) fn text(&self, at: usize, len: usize) -> &'a [u8] {
        let field = &self.0[at..at + len];
        field.split(|b| *b == 0).next().unwrap_or(field)
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The `prefix` field is a path only in POSIX headers.
    fn is_ustar(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.is_ustar() { self.text(345, 155) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    /// Old GNU sparse: up to four (offset, length) pairs, whether more follow, and the real size.
    pub(super) fn gnu_sparse(&self) -> Option<(Pairs, bool, i64)> {
        Some((pairs(self.0, 386, 4)?, self.0[482] != 0, self.number(483, 12)?))
    }
}

/// A continuation block of an old GNU sparse map: up to 21 pairs, and whether more follow.
pub(super) fn gnu_sparse_more(block: &[u8; BLOCK]) -> Option<(Pairs, bool)> {
    Some((pairs(block, 0, 21)?, block[504] != 0))
}

fn pairs(block: &[u8; BLOCK], at: usize, count: usize) -> Option<Pairs> {
    let header = Header(block);
    let mut found = Vec::new();
    for i in 0..count {
        let at = at + i * 24;
        if block[at] == 0 {
            break;
        }
        found.push((header.number(at, 12)?, header.number(at + 12, 12)?));
    }
    Some(found)
}
