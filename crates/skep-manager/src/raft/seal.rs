use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

/// First byte of everything sealed; a change of layout takes another.
const FORMAT: u8 = 1;
/// Length of a key in bytes.
pub(crate) const KEY_LEN: usize = 32;
const ID_LEN: usize = 4;
const HEADER: usize = 1 + ID_LEN + NONCE_LEN;

/// Names a data key; stored in the clear before each sealed text.
pub(crate) type KeyId = u32;

/// Why bytes could not be sealed or opened.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealError {
    #[error("sealed data is {0} bytes, shorter than its header")]
    Short(usize),
    #[error("sealed data has unknown format {0}")]
    Format(u8),
    #[error("sealed data was written with data key {0:08x}, which the key file does not have")]
    UnknownKey(KeyId),
    #[error(
        "sealed data does not open with data key {0:08x}: it was altered, or moved from its place"
    )]
    Forged(KeyId),
    #[error("no random bytes or no room in the cipher")]
    Cipher,
}

/// Seals what goes to disk with AES-256-GCM.
///
/// Layout: format (1), key id (4, big-endian), nonce (12, random), ciphertext, tag (16). The caller's
/// `place` (what record this is) is authenticated with it, so that one record cannot stand in for
/// another. Random nonces stay safe for 2^32 records under one key.
pub struct Sealer {
    active: KeyId,
    keys: Vec<(KeyId, LessSafeKey)>,
    random: SystemRandom,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Sealer {
    /// From keys by id; new records use `active`, which must be among them.
    pub(crate) fn new(active: KeyId, keys: &[(KeyId, [u8; KEY_LEN])]) -> Result<Self, SealError> {
        let mut bound = Vec::with_capacity(keys.len());
        for (id, key) in keys {
            let unbound = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Cipher)?;
            bound.push((*id, LessSafeKey::new(unbound)));
        }
        let sealer = Self { active, keys: bound, random: SystemRandom::new() };
        sealer.key(active)?;
        Ok(sealer)
    }

    fn key(&self, id: KeyId) -> Result<&LessSafeKey, SealError> {
        let found = self.keys.iter().find(|(known, _)| *known == id);
        found.map(|(_, key)| key).ok_or(SealError::UnknownKey(id))
    }

    pub(crate) fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0u8; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Cipher)?;
        let mut out = Vec::with_capacity(HEADER + plain.len() + AES_256_GCM.tag_len());
        out.push(FORMAT);
        out.extend_from_slice(&self.active.to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = self
            .key(self.active)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut out[HEADER..],
            )
            .map_err(|_| SealError::Cipher)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    pub(crate) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some((header, text)) = sealed.split_at_checked(HEADER) else {
            return Err(SealError::Short(sealed.len()));
        };
        if header[0] != FORMAT {
            return Err(SealError::Format(header[0]));
        }
        let short = || SealError::Short(sealed.len());
        let id: [u8; ID_LEN] = header[1..1 + ID_LEN].try_into().map_err(|_| short())?;
        let nonce: [u8; NONCE_LEN] = header[1 + ID_LEN..].try_into().map_err(|_| short())?;
        let id = KeyId::from_be_bytes(id);
        let mut text = text.to_vec();
        let len = self
            .key(id)?
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text)
            .map_err(|_| SealError::Forged(id))?
            .len();
        text.truncate(len);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_in_the_same_place_only() {
        let sealer = Sealer::new(7, &[(7, [1; KEY_LEN])]).unwrap();
        let sealed = sealer.seal(b"log 4", b"hello").unwrap();
        assert_eq!(sealer.open(b"log 4", &sealed).unwrap(), b"hello");
        assert_eq!(sealer.open(b"log 5", &sealed), Err(SealError::Forged(7)));
        assert!(!sealed.windows(5).any(|w| w == b"hello"));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let sealer = Sealer::new(7, &[(7, [1; KEY_LEN])]).unwrap();
        let sealed = sealer.seal(b"p", b"x").unwrap();
        for i in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[i] ^= 1;
            assert!(sealer.open(b"p", &bent).is_err(), "byte {i}");
            assert!(sealer.open(b"p", &sealed[..i]).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn old_keys_still_open() {
        let old = Sealer::new(1, &[(1, [1; KEY_LEN])]).unwrap();
        let sealed = old.seal(b"p", b"x").unwrap();
        let new = Sealer::new(2, &[(1, [1; KEY_LEN]), (2, [2; KEY_LEN])]).unwrap();
        assert_eq!(new.open(b"p", &sealed).unwrap(), b"x");
        assert_eq!(new.seal(b"p", b"x").unwrap()[4], 2);
    }
}
