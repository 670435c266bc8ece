use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Characters of a digest: 32 bytes in base 36.
const DIGEST_LEN: usize = 50;

/// Characters of a secret: 16 bytes in base 36.
const SECRET_LEN: usize = 25;

const UNLOCK_PREFIX: &str = "SWMKEY-1-";

/// What lets a node join: the digest of the swarm's root and a secret that stands for a role.
///
/// `Debug` hides the secret; `Display` is the token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// `Some` in the second form, saying whether the cluster only uses FIPS algorithms.
    fips: Option<bool>,
    digest: String,
    secret: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the join token does not begin with SWMTKN-1- or SWMTKN-2-")]
    Prefix,
    #[error("the join token has {found} parts, expected {expected}")]
    Parts { found: usize, expected: usize },
    #[error("the {part} of the join token is not {expected} characters of 0-9 and a-z")]
    Part { part: &'static str, expected: usize },
    #[error("the FIPS part of the join token is neither 0 nor 1")]
    Fips,
    #[error("the unlock key does not begin with SWMKEY-1-")]
    UnlockPrefix,
    #[error("the unlock key is not base64")]
    UnlockBase64,
}

impl JoinToken {
    /// A token for the swarm with this root, from 16 random bytes.
    pub fn new(root_pem: &[u8], secret: [u8; 16]) -> Self {
        Self { fips: None, digest: root_digest(root_pem), secret: base36(&secret, SECRET_LEN) }
    }

    /// A token with a secret from the system's source of chance.
    pub fn generate(root_pem: &[u8]) -> Self {
        Self::new(root_pem, rand::random())
    }

    /// Digest of the root that a node must find, as [`root_digest`] writes it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// True if the cluster that made it only takes nodes with FIPS algorithms.
    pub fn requires_fips(&self) -> bool {
        self.fips == Some(true)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fips {
            None => write!(f, "SWMTKN-1-{}-{}", self.digest, self.secret),
            Some(fips) => {
                write!(f, "SWMTKN-2-{}-{}-{}", u8::from(fips), self.digest, self.secret)
            }
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}-..)", self.digest)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (rest, second_form) =
            match (text.strip_prefix("SWMTKN-1-"), text.strip_prefix("SWMTKN-2-")) {
                (Some(rest), _) => (rest, false),
                (_, Some(rest)) => (rest, true),
                _ => return Err(TokenError::Prefix),
            };
        let parts: Vec<&str> = rest.split('-').collect();
        let (fips, digest, secret) = match (second_form, parts.as_slice()) {
            (false, [digest, secret]) => (None, digest, secret),
            (true, ["0", digest, secret]) => (Some(false), digest, secret),
            (true, ["1", digest, secret]) => (Some(true), digest, secret),
            (true, [_, _, _]) => return Err(TokenError::Fips),
            (_, parts) => {
                let expected = 2 + usize::from(second_form);
                return Err(TokenError::Parts { found: parts.len(), expected });
            }
        };
        check("digest", digest, DIGEST_LEN)?;
        check("secret", secret, SECRET_LEN)?;
        Ok(Self { fips, digest: (*digest).to_owned(), secret: (*secret).to_owned() })
    }
}

fn check(part: &'static str, text: &str, expected: usize) -> Result<(), TokenError> {
    let base36 = text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    if text.len() == expected && base36 { Ok(()) } else { Err(TokenError::Part { part, expected }) }
}

/// SHA-256 of exactly these PEM bytes in lower-case base 36, 50 characters.
pub fn root_digest(pem: &[u8]) -> String {
    base36(&Sha256::digest(pem), DIGEST_LEN)
}

/// A manager's unlock key as users see it.
pub fn format_unlock_key(key: &[u8]) -> String {
    format!("{UNLOCK_PREFIX}{}", STANDARD_NO_PAD.encode(key))
}

/// The key in what a user typed.
pub fn parse_unlock_key(text: &str) -> Result<Vec<u8>, TokenError> {
    let encoded = text.strip_prefix(UNLOCK_PREFIX).ok_or(TokenError::UnlockPrefix)?;
    STANDARD_NO_PAD.decode(encoded).map_err(|_| TokenError::UnlockBase64)
}

/// A big-endian number in base 36, padded with zeros to `len` characters.
fn base36(bytes: &[u8], len: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(len);
    while number.iter().any(|&b| b != 0) {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            // Below 256, since the remainder is below 36.
            *byte = u8::try_from(value / 36).unwrap_or(u8::MAX);
            remainder = value % 36;
        }
        digits.push(char::from_digit(remainder, 36).unwrap_or('0'));
    }
    digits.resize(len.max(digits.len()), '0');
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_and_secret_are_dockers() {
        assert_eq!(root_digest(b""), "5oaq0bjhj6un82wg98mgigso5q7qlhc63je4gw7ivixqqhkd3p");
        let secret: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(base36(&secret, SECRET_LEN), "000avh9he7dy896m08s18udxr");
    }

    #[test]
    fn tokens_round_trip() {
        let token = JoinToken::new(b"root", [7; 16]);
        let text = token.to_string();
        assert_eq!(text.len(), 85);
        assert_eq!(text.parse(), Ok(token));
        let second = text.replace("SWMTKN-1-", "SWMTKN-2-1-");
        assert_eq!(second.len(), 87);
        let parsed: JoinToken = second.parse().unwrap();
        assert!(parsed.requires_fips());
        assert_eq!(parsed.to_string(), second);
    }

    #[test]
    fn broken_tokens_say_what_is_wrong() {
        let parse = |text: &str| text.parse::<JoinToken>().unwrap_err();
        let good = JoinToken::new(b"root", [7; 16]).to_string();
        assert_eq!(parse(""), TokenError::Prefix);
        assert_eq!(parse("SWMTKN-1-abc"), TokenError::Parts { found: 1, expected: 2 });
        assert_eq!(
            parse(&good[..good.len() - 1]),
            TokenError::Part { part: "secret", expected: SECRET_LEN }
        );
        assert_eq!(
            parse(&good.replace("SWMTKN-1-", "SWMTKN-1-A")),
            TokenError::Part { part: "digest", expected: DIGEST_LEN }
        );
        assert_eq!(parse(&good.replace("SWMTKN-1-", "SWMTKN-2-3-")), TokenError::Fips);
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = JoinToken::new(b"root", [7; 16]);
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn unlock_keys_round_trip() {
        let text = format_unlock_key(&[1, 2, 3, 4]);
        assert_eq!(text, "SWMKEY-1-AQIDBA");
        assert_eq!(parse_unlock_key(&text), Ok(vec![1, 2, 3, 4]));
        assert_eq!(parse_unlock_key("AQIDBA"), Err(TokenError::UnlockPrefix));
        assert_eq!(parse_unlock_key("SWMKEY-1-="), Err(TokenError::UnlockBase64));
    }
}
