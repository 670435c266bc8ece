//! Files with holes.

/// Where the bytes of a sparse file belong; everything else is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Size of the file with its holes.
    pub(crate) size: u64,
    /// Offset and length, ascending, not overlapping, within `size`.
    pub(crate) segments: Vec<(u64, u64)>,
}

impl Sparse {
    /// `None` unless the segments are ascending, within the file, and together as long as the data
    /// that is in the stream.
    pub(super) fn new(size: i64, pairs: &[(i64, i64)], data: u64) -> Option<Self> {
        let size = u64::try_from(size).ok()?;
        let mut end = 0;
        let mut sum: u64 = 0;
        let mut segments = Vec::with_capacity(pairs.len());
        for (offset, len) in pairs {
            let (offset, len) = (u64::try_from(*offset).ok()?, u64::try_from(*len).ok()?);
            if offset < end {
                return None;
            }
            end = offset.checked_add(len)?;
            sum = sum.checked_add(len)?;
            if len > 0 {
                segments.push((offset, len));
            }
        }
        (end <= size && sum == data).then_some(Self { size, segments })
    }
}

/// Numbers separated by one byte, as pairs.
pub(super) fn parse_pairs(text: &[u8], separator: u8) -> Option<Vec<(i64, i64)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Option<Vec<i64>> = text
        .split(|b| *b == separator)
        .map(|n| std::str::from_utf8(n).ok()?.parse().ok())
        .collect();
    let numbers = numbers?;
    if numbers.len() % 2 != 0 {
        return None;
    }
    Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
