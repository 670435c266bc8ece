//! A private key under a key of its own: PKCS#8 as Docker's managers store it when they are locked.

use pkcs8::der::pem::{LineEnding, PemLabel as _};
use pkcs8::pkcs5::pbes2;
use pkcs8::{EncryptedPrivateKeyInfo, PrivateKeyInfo, SecretDocument};
use thiserror::Error;

/// Rounds of PBKDF2. They slow down guessing of passwords; unlock keys are 32 random bytes, which nobody
/// guesses.
const ROUNDS: u32 = 2048;

/// Why a key could not be sealed or opened.
#[derive(Debug, Error)]
pub enum SealedKeyError {
    #[error("the private key is not PKCS#8 in PEM")]
    Format(#[source] pkcs8::Error),
    #[error("the private key cannot be encrypted")]
    Seal(#[source] pkcs8::Error),
    /// The only thing that can be wrong with a well-formed one, as far as one can tell.
    #[error("the unlock key does not fit")]
    WrongKey,
}

fn format(error: impl Into<pkcs8::Error>) -> SealedKeyError {
    SealedKeyError::Format(error.into())
}

/// Whether this PEM text is a key that needs another one to be used.
pub(crate) fn is_sealed(pem: &[u8]) -> bool {
    let begin = format!("-----BEGIN {}-----", EncryptedPrivateKeyInfo::PEM_LABEL);
    pem.trim_ascii_start().starts_with(begin.as_bytes())
}

/// Encrypts a key (PKCS#8 in PEM) with `unlock_key`: PBES2, AES-256-CBC, PBKDF2 with SHA-256.
pub(crate) fn seal(pem: &[u8], unlock_key: &[u8]) -> Result<Vec<u8>, SealedKeyError> {
    let (_, key) = SecretDocument::from_pem(text(pem)?).map_err(format)?;
    let info: PrivateKeyInfo<'_> = key.decode_msg().map_err(format)?;
    let (salt, iv): ([u8; 16], [u8; 16]) = (rand::random(), rand::random());
    let params = pbes2::Parameters::pbkdf2_sha256_aes256cbc(ROUNDS, &salt, &iv)
        .map_err(|e| SealedKeyError::Seal(e.into()))?;
    let sealed = info.encrypt_with_params(params, unlock_key).map_err(SealedKeyError::Seal)?;
    let pem = sealed.to_pem(EncryptedPrivateKeyInfo::PEM_LABEL, LineEnding::LF).map_err(format)?;
    Ok(pem.as_bytes().to_vec())
}

/// The key (PKCS#8 in PEM) that [`seal`] or a Docker manager sealed.
pub(crate) fn open(pem: &[u8], unlock_key: &[u8]) -> Result<Vec<u8>, SealedKeyError> {
    let (_, sealed) = SecretDocument::from_pem(text(pem)?).map_err(format)?;
    let info: EncryptedPrivateKeyInfo<'_> = sealed.decode_msg().map_err(format)?;
    let key = info.decrypt(unlock_key).map_err(|_| SealedKeyError::WrongKey)?;
    let pem = key.to_pem(PrivateKeyInfo::PEM_LABEL, LineEnding::LF).map_err(format)?;
    Ok(pem.as_bytes().to_vec())
}

fn text(pem: &[u8]) -> Result<&str, SealedKeyError> {
    std::str::from_utf8(pem).map_err(|_| format(pkcs8::Error::KeyMalformed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;

    #[test]
    fn only_the_key_that_sealed_it_opens_it() {
        let key = NodeKey::generate().unwrap().to_pem().into_bytes();
        let sealed = seal(&key, &[7; 32]).unwrap();
        assert!(is_sealed(&sealed) && !is_sealed(&key));
        let plain = |pem: &[u8]| SecretDocument::from_pem(text(pem).unwrap()).unwrap().1;
        let opened = open(&sealed, &[7; 32]).unwrap();
        assert_eq!(plain(&opened).as_bytes(), plain(&key).as_bytes());
        assert!(matches!(open(&sealed, &[8; 32]), Err(SealedKeyError::WrongKey)));
        assert!(matches!(open(b"junk", &[7; 32]), Err(SealedKeyError::Format(_))));
        // Twice the same key looks different.
        assert_ne!(sealed, seal(&key, &[7; 32]).unwrap());
    }
}
