//! One entry, encoded and decoded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::frame::StdStream;

/// A piece of output: a line with its newline, or a part of one without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub stream: StdStream,
    /// When the shim read it.
    pub time: OffsetDateTime,
    pub line: Bytes,
    pub attrs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct OnDisk<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// Reads one line of a file. `None` for what is no entry: a line torn by a crash is left out, not an
/// error that would hide the rest.
pub(super) fn decode(line: &[u8]) -> Option<LogEntry> {
    let entry: OnDisk<'_> = serde_json::from_slice(line).ok()?;
    Some(LogEntry {
        stream: match entry.stream.as_ref() {
            "stderr" => StdStream::Stderr,
            _ => StdStream::Stdout,
        },
        time: OffsetDateTime::parse(&entry.time, &Rfc3339).ok()?,
        line: Bytes::from(entry.log.into_owned().into_bytes()),
        attrs: entry.attrs,
    })
}

/// Appends one entry. `attrs` is already JSON (an object), or empty.
pub(super) fn encode(out: &mut Vec<u8>, line: &[u8], stream: StdStream, attrs: &str, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, line);
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    if !attrs.is_empty() {
        out.extend_from_slice(b"\",\"attrs\":");
        out.extend_from_slice(attrs.as_bytes());
        out.extend_from_slice(b",\"time\":\"");
    } else {
        out.extend_from_slice(b"\",\"time\":\"");
    }
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// JSON string escapes as Docker writes them: also `<`, `>`, `&` and the line separators U+2028 and
/// U+2029; bytes that are no UTF-8 become U+FFFD.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{7f}' | '\u{2028}' | '\u{2029}' => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    let code = u32::from(c) as usize;
                    out.extend_from_slice(b"\\u");
                    out.extend([12, 8, 4, 0].map(|shift| HEX[(code >> shift) & 15]));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_format_to_the_byte() {
        let mut out = Vec::new();
        encode(
            &mut out,
            b"a \"b\" <c>\x1b[0m \xff\n",
            StdStream::Stderr,
            "",
            "2024-01-02T03:04:05.6Z",
        );
        assert_eq!(
            String::from_utf8(out).expect("utf-8"),
            "{\"log\":\"a \\\"b\\\" \\u003cc\\u003e\\u001b[0m \\ufffd\\n\",\"stream\":\"stderr\",\"time\":\"2024-01-02T03:04:05.6Z\"}\n"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        encode(
            &mut out,
            "zeile mit ü\r\n".as_bytes(),
            StdStream::Stdout,
            r#"{"k":"v"}"#,
            "2024-01-02T03:04:05Z",
        );
        let entry = decode(&out).expect("entry");
        assert_eq!(entry.line, "zeile mit ü\r\n".as_bytes());
        assert_eq!(entry.attrs["k"], "v");
        assert_eq!(entry.time.unix_timestamp(), 1_704_164_645);
        assert_eq!(decode(&out[..20]), None);
    }
}
