use crate::http::ApiError;

/// The keys that detach a client from a terminal, in order. The default is ctrl-p, ctrl-q.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`: characters, or `ctrl-` with a letter or one of `@ [ \ ] ^ _`. Empty text
    /// is the default.
    ///
    /// Errors: 400, naming the key.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }

    /// A matcher for one connection's input.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher { keys: &self.0, held: 0 }
    }
}

fn key(name: &str) -> Result<u8, ApiError> {
    let unknown = || ApiError::bad_request(format!("unknown character: '{name}' in detach keys"));
    let code = match name.strip_prefix("ctrl-") {
        Some("@") => 0,
        Some("[") => 27,
        Some("\\") => 28,
        Some("]") => 29,
        Some("^") => 30,
        Some("_") => 31,
        Some(rest) => match rest.as_bytes() {
            [letter @ b'a'..=b'z'] => letter - b'a' + 1,
            [letter @ b'A'..=b'Z'] => letter - b'A' + 1,
            _ => return Err(unknown()),
        },
        None if name.eq_ignore_ascii_case("DEL") => 127,
        None => match name.as_bytes() {
            [byte] => *byte,
            _ => return Err(unknown()),
        },
    };
    Ok(code)
}

/// Watches input for the keys. Bytes that may be their beginning are held back until it is clear.
pub(crate) struct Matcher<'a> {
    keys: &'a [u8],
    held: usize,
}

impl Matcher<'_> {
    /// Takes input, appends what is to be passed on to `out`; true if the keys are complete. What
    /// follows them is dropped.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in input {
            if self.keys.get(self.held) != Some(&byte) {
                out.extend_from_slice(&self.keys[..self.held]);
                self.held = 0;
            }
            if self.keys.get(self.held) == Some(&byte) {
                self.held += 1;
                if self.held == self.keys.len() {
                    return true;
                }
            } else {
                out.push(byte);
            }
        }
        false
    }

    /// Input has ended: what was held back after all.
    pub fn rest(&self) -> &[u8] {
        &self.keys[..self.held]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys() {
        assert_eq!(DetachKeys::parse("").unwrap(), DetachKeys::default());
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q").unwrap(), DetachKeys::default());
        assert_eq!(DetachKeys::parse("a,ctrl-\\").unwrap(), DetachKeys(vec![b'a', 28]));
        for bad in ["ctrl-", "ctrl-pp", "ab", "a,,b"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_found_across_reads_and_false_starts_pass() {
        let keys = DetachKeys::default();
        let mut matcher = keys.matcher();
        let mut out = Vec::new();
        assert!(!matcher.feed(b"ab\x10", &mut out));
        assert_eq!(matcher.rest(), b"\x10");
        assert!(!matcher.feed(b"c\x10\x10", &mut out));
        assert_eq!(out, b"ab\x10c\x10");
        assert!(matcher.feed(b"\x11lost", &mut out));
        assert_eq!(out, b"ab\x10c\x10");
    }
}
