//! The outer form of state files: a JSON object with a format number.
//!
//! ```json
//! {"format": 1, …}
//! ```
//! Each kind of file counts for itself. A number goes up when an older skep would misread the file, not
//! when a field is added that it may ignore. Files of before there were numbers are of format 0. A file of
//! a newer format is not read at all and therefore kept as it is: whoever goes back to an older version
//! finds everything again when he comes forward.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why a state file cannot be used. It is then left alone, never removed or written over.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// There is nothing in it, as a loss of power leaves files that were not synced.
    #[error("it is empty")]
    Empty,
    /// It holds something else than it should.
    #[error("it is damaged")]
    Damaged(#[source] serde_json::Error),
    /// A later version wrote it.
    #[error(
        "it has format {format}, made by a newer version of skep; this one knows formats up to {newest}"
    )]
    Newer {
        /// The file's.
        format: u32,
        /// What this version knows.
        newest: u32,
    },
}

#[derive(Serialize)]
struct Numbered<'a, T> {
    format: u32,
    #[serde(flatten)]
    content: &'a T,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: u32,
}

/// The content of a state file.
///
/// # Errors
/// Those of serialising: `content` must be a struct or a map with text as keys, without a field `format`.
pub fn encode<T: Serialize>(format: u32, content: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Numbered { format, content })
}

/// Reads a state file of format `newest` or older. What changed from format to format is the business of
/// `T`, by defaults and aliases of its fields.
///
/// # Errors
/// [`Unreadable`].
pub fn decode<T: DeserializeOwned>(newest: u32, bytes: &[u8]) -> Result<T, Unreadable> {
    if bytes.iter().all(|b| b.is_ascii_whitespace() || *b == 0) {
        return Err(Unreadable::Empty);
    }
    // Before the rest: of a newer format nothing else is known.
    let Head { format } = serde_json::from_slice(bytes).map_err(Unreadable::Damaged)?;
    if format > newest {
        return Err(Unreadable::Newer { format, newest });
    }
    serde_json::from_slice(bytes).map_err(Unreadable::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Content = BTreeMap<String, serde_json::Value>;

    #[test]
    fn there_and_back() {
        let content: BTreeMap<String, String> = [("name".to_owned(), "a".to_owned())].into();
        let bytes = encode(1, &content).unwrap();
        assert_eq!(bytes, br#"{"format":1,"name":"a"}"#);
        let read: Content = decode(1, &bytes).unwrap();
        assert_eq!(read["name"], "a");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let read = |text: &str| decode::<Content>(1, text.as_bytes());
        assert!(read(r#"{"name":"before there were numbers"}"#).is_ok());
        assert!(matches!(read(""), Err(Unreadable::Empty)));
        assert!(matches!(read("\0\0\0\0"), Err(Unreadable::Empty)));
        for damaged in [r#"{"format":1,"na"#, "[]", "x", r#"{"format":"one"}"#, r#"{"format":-1}"#]
        {
            assert!(matches!(read(damaged), Err(Unreadable::Damaged(_))), "{damaged}");
        }
        // Nothing but the number must be understood.
        let newer = read(r#"{"format":2,"name":{"in":["another","shape"]}}"#).unwrap_err();
        assert!(matches!(newer, Unreadable::Newer { format: 2, newest: 1 }), "{newer}");
    }
}
