use crate::counters::DropCause;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::fmt;

const NONCE: usize = 12;
const TAG: usize = 16;
const BLOCK: usize = 16;
/// Version with the plain text padded to whole blocks; read, never written.
const PADDED: u8 = 0;
const UNPADDED: u8 = 1;

/// Why keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// There must be one to send with.
    #[error("a gossip keyring needs at least one key")]
    Empty,
    /// The place of the primary key is beyond the keys.
    #[error("primary gossip key {primary} of {count} keys")]
    Primary {
        /// The place asked for.
        primary: usize,
        /// How many keys there are.
        count: usize,
    },
    /// Swarm's keys have 16 bytes; 32 work too. (24, which memberlist also knows, is not offered
    /// by the cryptography library and never handed out by a swarm.)
    #[error("a gossip key of {len} bytes; 16 or 32 are possible")]
    Length {
        /// Length of the refused key.
        len: usize,
    },
}

/// Keys of the gossip: opens with any, seals with the primary one.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<LessSafeKey>,
    primary: usize,
}

impl Keyring {
    /// A ring of `keys`, sealing with `keys[primary]`. In a swarm the primary is the second-oldest.
    pub fn new(keys: &[Vec<u8>], primary: usize) -> Result<Self, KeyringError> {
        if keys.is_empty() {
            return Err(KeyringError::Empty);
        }
        if primary >= keys.len() {
            return Err(KeyringError::Primary { primary, count: keys.len() });
        }
        let key = |bytes: &Vec<u8>| {
            let algorithm = match bytes.len() {
                16 => &AES_128_GCM,
                32 => &AES_256_GCM,
                len => return Err(KeyringError::Length { len }),
            };
            let key = UnboundKey::new(algorithm, bytes)
                .map_err(|_| KeyringError::Length { len: bytes.len() })?;
            Ok(LessSafeKey::new(key))
        };
        let keys = keys.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, primary })
    }

    /// Length of the sealed form of `plain` bytes.
    pub(crate) const fn sealed_len(plain: usize) -> usize {
        1 + NONCE + plain + TAG
    }

    /// Version, nonce, cipher text, tag. A nonce must never come twice under one key, so `nonce`
    /// must be from a generator that was seeded with true chance.
    pub(crate) fn seal(&self, nonce: [u8; NONCE], aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(Self::sealed_len(plain.len()));
        sealed.push(UNPADDED);
        sealed.extend(nonce);
        let mut body = plain.to_vec();
        self.keys[self.primary]
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut body,
            )
            .expect("AES-GCM seals anything below 64 GiB");
        sealed.append(&mut body);
        sealed
    }

    /// The plain text of what any of the keys sealed.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DropCause> {
        let (&version, rest) = sealed.split_first().ok_or(DropCause::Truncated)?;
        if version != UNPADDED && version != PADDED {
            return Err(DropCause::NotEncrypted);
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE>().ok_or(DropCause::Truncated)?;
        if body.len() < TAG {
            return Err(DropCause::Truncated);
        }
        for key in &self.keys {
            // A failed attempt destroys the buffer.
            let mut buffer = body.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let Ok(plain) = key.open_in_place(nonce, Aad::from(aad), &mut buffer) else {
                continue;
            };
            let mut len = plain.len();
            if version == PADDED {
                let padding = usize::from(*plain.last().ok_or(DropCause::Malformed)?);
                if padding == 0 || padding > BLOCK || padding > len {
                    return Err(DropCause::Malformed);
                }
                len -= padding;
            }
            buffer.truncate(len);
            return Ok(buffer);
        }
        Err(DropCause::NoKey)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("keys", &self.keys.len())
            .field("primary", &self.primary)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_opens_and_the_primary_seals() {
        let (a, b, c) = (vec![1; 16], vec![2; 16], vec![3; 32]);
        let old = Keyring::new(&[a.clone(), b.clone()], 0).unwrap();
        let new = Keyring::new(&[b.clone(), a, c], 0).unwrap();
        let sealed = old.seal([7; 12], b"aad", b"plain");
        assert_eq!(sealed.len(), Keyring::sealed_len(5));
        assert_eq!(new.open(b"aad", &sealed).unwrap(), b"plain");
        assert_eq!(new.open(b"", &sealed), Err(DropCause::NoKey));
        let after = Keyring::new(&[b], 0).unwrap();
        assert_eq!(after.open(b"aad", &sealed), Err(DropCause::NoKey));
        assert_eq!(after.open(b"aad", &[]), Err(DropCause::Truncated));
        assert_eq!(after.open(b"aad", &[1; 20]), Err(DropCause::Truncated));
        assert_eq!(after.open(b"aad", &[9; 60]), Err(DropCause::NotEncrypted));
    }

    #[test]
    fn the_padded_version_is_read() {
        let ring = Keyring::new(&[vec![1; 16]], 0).unwrap();
        let mut padded = b"hello".to_vec();
        padded.extend([11; 11]);
        let mut sealed = ring.seal([7; 12], b"", &padded);
        sealed[0] = 0;
        assert_eq!(ring.open(b"", &sealed).unwrap(), b"hello");
    }

    #[test]
    fn refused_keys() {
        assert_eq!(Keyring::new(&[], 0).unwrap_err(), KeyringError::Empty);
        let error = Keyring::new(&[vec![0; 16]], 1).unwrap_err();
        assert_eq!(error, KeyringError::Primary { primary: 1, count: 1 });
        let error = Keyring::new(&[vec![0; 24]], 0).unwrap_err();
        assert_eq!(error, KeyringError::Length { len: 24 });
    }
}
