//! PAX extended headers: `<length> <key>=<value>\n` records.

use std::collections::BTreeMap;

/// Records by key; a later one wins, an empty value removes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pax {
    records: BTreeMap<String, Vec<u8>>,
    /// GNU sparse 0.0 repeats its keys, so their order counts.
    pub(super) sparse_pairs: Vec<(i64, i64)>,
}

impl Pax {
    /// Adds the records of one header. `None` if it is malformed.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<()> {
        let mut offset = None;
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return None;
            }
            let record = &bytes[space + 1..length - 1];
            bytes = &bytes[length..];
            let equals = record.iter().position(|b| *b == b'=')?;
            let key = std::str::from_utf8(&record[..equals]).ok()?;
            let value = &record[equals + 1..];
            match key {
                "GNU.sparse.offset" => offset = Some(number(value)?),
                "GNU.sparse.numbytes" => self.sparse_pairs.push((offset.take()?, number(value)?)),
                _ if value.is_empty() => {
                    self.records.remove(key);
                }
                _ => {
                    self.records.insert(key.into(), value.to_vec());
                }
            }
        }
        Some(())
    }

    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key).map(Vec::as_slice)
    }

    /// `Some(None)`: the record is there and malformed.
    pub(super) fn number(&self, key: &str) -> Option<Option<i64>> {
        self.get(key).map(number)
    }

    /// Seconds and nanoseconds of a decimal time.
    pub(super) fn time(&self, key: &str) -> Option<Option<(i64, u32)>> {
        self.get(key).map(|value| {
            let text = std::str::from_utf8(value).ok()?;
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            let (seconds, nanos): (i64, u32) = (seconds.parse().ok()?, digits.parse().ok()?);
            if text.starts_with('-') && nanos > 0 {
                return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
            }
            Some((seconds, nanos))
        })
    }

    pub(super) fn xattrs(&self) -> Vec<(String, Vec<u8>)> {
        const PREFIX: &str = "SCHILY.xattr.";
        self.records
            .range(PREFIX.to_owned()..)
            .map_while(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value.clone())))
            .collect()
    }

    /// `self`, overlaid with the records of one member.
    pub(super) fn with(&self, own: Pax) -> Pax {
        let mut merged = self.clone();
        merged.records.extend(own.records);
        merged.sparse_pairs = own.sparse_pairs;
        merged
    }
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
