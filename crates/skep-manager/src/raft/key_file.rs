use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use skep_sys::files::{self, Durability};
use skep_types::{Bytes64, stored};
use thiserror::Error;
use tokio::sync::watch;

use super::seal::{KEY_LEN, KeyId, SealError, Sealer};

/// Place of the sealed keys in [`Sealer::seal`]'s sense.
const PLACE: &[u8] = b"skep raft data keys";
/// Key id under which the unlock key seals the data keys.
const UNLOCK_KEY_ID: KeyId = 0;

/// Why the data keys could not be had.
#[derive(Debug, Error)]
pub enum KeyFileError {
    #[error("cannot {action} the key file {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key file {} is not valid", path.display())]
    Format {
        path: PathBuf,
        #[source]
        source: stored::Unreadable,
    },
    /// Autolock is on and no unlock key was given.
    #[error("the swarm is locked")]
    Locked,
    #[error("the unlock key does not fit")]
    WrongKey,
    #[error("no usable data key in {}", path.display())]
    Keys {
        path: PathBuf,
        #[source]
        source: SealError,
    },
}

/// The keys that seal log and snapshots. `active` seals new records, the others open older ones.
#[derive(Serialize, Deserialize)]
struct Keys {
    active: KeyId,
    keys: Vec<(KeyId, Bytes64)>,
}

/// Newest format of the file.
const FORMAT: u32 = 1;

/// On disk: the keys in the clear (the file is 0600), or sealed by the unlock key. One of both.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clear: Option<Keys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locked: Option<Bytes64>,
}

/// The file beside the log which holds the data keys.
pub(crate) struct KeyFile {
    path: PathBuf,
    keys: Keys,
    /// What the file is sealed with now.
    unlock_key: watch::Sender<Option<Vec<u8>>>,
}

impl KeyFile {
    /// Opens the file, or makes it with a fresh key.
    ///
    /// # Errors
    /// [`KeyFileError::Locked`] and [`KeyFileError::WrongKey`] leave everything as it was.
    pub fn open(path: &Path, unlock_key: Option<&[u8]>) -> Result<Self, KeyFileError> {
        let io = |action, source| KeyFileError::Io { action, path: path.to_owned(), source };
        let bytes = match files::read(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Self::create(path),
            Err(e) => return Err(io("read", e)),
        };
        let format = |source| KeyFileError::Format { path: path.to_owned(), source };
        let (keys, unlock_key) = match stored::decode(FORMAT, &bytes).map_err(format)? {
            Stored { clear: Some(keys), .. } => (keys, None),
            Stored { clear: None, locked: None } => return Err(format(stored::Unreadable::Empty)),
            Stored { clear: None, locked: Some(sealed) } => {
                let key = unlock_key.ok_or(KeyFileError::Locked)?;
                let sealer = unlock_sealer(key)?;
                let plain = sealer.open(PLACE, &sealed.0).map_err(|_| KeyFileError::WrongKey)?;
                (stored::decode(FORMAT, &plain).map_err(format)?, Some(key.to_vec()))
            }
        };
        Ok(Self { path: path.to_owned(), keys, unlock_key: watch::Sender::new(unlock_key) })
    }

    fn create(path: &Path) -> Result<Self, KeyFileError> {
        let bad = |source| KeyFileError::Keys { path: path.to_owned(), source };
        let random = SystemRandom::new();
        let mut key = [0u8; KEY_LEN];
        random.fill(&mut key).map_err(|_| bad(SealError::Cipher))?;
        let keys = Keys { active: 1, keys: vec![(1, Bytes64(key.to_vec()))] };
        let file = Self { path: path.to_owned(), keys, unlock_key: watch::Sender::new(None) };
        file.store(None)?;
        Ok(file)
    }

    /// Writes the file: sealed with `unlock_key`, or in the clear.
    pub fn store(&self, unlock_key: Option<&[u8]>) -> Result<(), KeyFileError> {
        let format = |source| KeyFileError::Format {
            path: self.path.clone(),
            source: stored::Unreadable::Damaged(source),
        };
        let content = match unlock_key {
            None => {
                let keys = Keys { active: self.keys.active, keys: self.keys.keys.clone() };
                Stored { clear: Some(keys), locked: None }
            }
            Some(key) => {
                let plain = stored::encode(FORMAT, &self.keys).map_err(format)?;
                let sealed = unlock_sealer(key)?.seal(PLACE, &plain);
                let bad = |source| KeyFileError::Keys { path: self.path.clone(), source };
                Stored { clear: None, locked: Some(Bytes64(sealed.map_err(bad)?)) }
            }
        };
        let bytes = stored::encode(FORMAT, &content).map_err(format)?;
        files::replace(&self.path, &bytes, 0o600, Durability::Lasting).map_err(|source| {
            KeyFileError::Io { action: "write", path: self.path.clone(), source }
        })?;
        self.unlock_key.send_replace(unlock_key.map(<[u8]>::to_vec));
        Ok(())
    }

    pub fn is_stored_with(&self, unlock_key: Option<&[u8]>) -> bool {
        self.unlock_key.borrow().as_deref() == unlock_key
    }

    /// What the file is sealed with, as it changes.
    pub fn unlock_key(&self) -> watch::Receiver<Option<Vec<u8>>> {
        self.unlock_key.subscribe()
    }

    pub fn sealer(&self) -> Result<Sealer, KeyFileError> {
        let bad = |source| KeyFileError::Keys { path: self.path.clone(), source };
        let mut keys = Vec::with_capacity(self.keys.keys.len());
        for (id, key) in &self.keys.keys {
            let key =
                key.0.as_slice().try_into().map_err(|_| bad(SealError::Short(key.0.len())))?;
            keys.push((*id, key));
        }
        Sealer::new(self.keys.active, &keys).map_err(bad)
    }
}

fn unlock_sealer(key: &[u8]) -> Result<Sealer, KeyFileError> {
    let key: [u8; KEY_LEN] = key.try_into().map_err(|_| KeyFileError::WrongKey)?;
    Sealer::new(UNLOCK_KEY_ID, &[(UNLOCK_KEY_ID, key)]).map_err(|_| KeyFileError::WrongKey)
}
