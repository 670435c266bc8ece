use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_sys::files::{self, Durability};
use skep_types::Timestamp;
use thiserror::Error;

use crate::sealed_key::{self, SealedKeyError};
use crate::{CertError, Credentials, TrustRoot};

const KEY: &str = "swarm-node.key";
const CERTIFICATE: &str = "swarm-node.crt";
const ROOT: &str = "swarm-root-ca.crt";

/// The key of the certificate that is about to be written.
const NEXT_KEY: &str = "swarm-node.key.next";

/// The same key as in [`KEY`], as it will be there after a change of the lock.
const RELOCKED_KEY: &str = "swarm-node.key.relocked";

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is missing while the other files of the node's credentials are there", path.display())]
    Missing { path: PathBuf },
    #[error("the root certificate in {} cannot be used", path.display())]
    Root {
        path: PathBuf,
        #[source]
        source: CertError,
    },
    #[error("the node's certificate in {} cannot be used", path.display())]
    Node {
        path: PathBuf,
        #[source]
        source: CertError,
    },
    #[error("the node's key in {} cannot be used", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: SealedKeyError,
    },
    /// The node's key is sealed and no unlock key was given.
    #[error("the swarm is locked")]
    Locked,
    #[error("the unlock key does not fit")]
    WrongKey,
}

/// A folder with a node's credentials: `swarm-node.key` (PKCS#8, mode 0600), `swarm-node.crt` and
/// `swarm-root-ca.crt`. Calls block on the disk.
///
/// A crash at any moment leaves either the old or the new credentials: the new key is put beside the
/// old one first, then the certificate is replaced, then the key. [`Store::load`] finishes a
/// replacement that was interrupted between the two.
///
/// A locked manager's key is sealed with the swarm's unlock key, which is on no disk. Clones share what
/// they know of it, and work one after the other.
#[derive(Clone)]
pub struct Store {
    folder: PathBuf,
    lock: Arc<Mutex<Lock>>,
}

/// What the key on disk is sealed with; `None`: it is in the clear.
type Lock = Option<Vec<u8>>;

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Store {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), lock: Arc::default() }
    }

    /// Reads the credentials, `None` if there are none. `unlock_key` opens a key that is sealed, and
    /// seals the next ones; it is not needed for one in the clear.
    ///
    /// Fails if some of the files are missing, broken, or do not belong together, if the certificate is
    /// not valid at `now`, and with [`StoreError::Locked`] or [`StoreError::WrongKey`].
    pub fn load(
        &self,
        now: Timestamp,
        unlock_key: Option<&[u8]>,
    ) -> Result<Option<Credentials>, StoreError> {
        let mut lock = self.lock();
        let (key, certificate, root) = (self.read(KEY)?, self.read(CERTIFICATE)?, self.read(ROOT)?);
        let next = self.read(NEXT_KEY)?;
        // The certificate is what commits: without one, a key and a root are the remains of a first
        // save that did not finish.
        let Some(certificate) = certificate else {
            return match key {
                Some(_) => Err(StoreError::Missing { path: self.path(CERTIFICATE) }),
                None => Ok(None),
            };
        };
        let root = root.ok_or_else(|| StoreError::Missing { path: self.path(ROOT) })?;
        let trust = TrustRoot::from_pem(&root, now)
            .map_err(|source| StoreError::Root { path: self.path(ROOT), source })?;
        let node = |source| StoreError::Node { path: self.path(CERTIFICATE), source };
        if let Some(next) = next {
            let (next, sealed_with) = self.open(NEXT_KEY, &next, unlock_key)?;
            match Credentials::new(trust.clone(), &certificate, &next, now) {
                Ok(credentials) => {
                    self.rename(NEXT_KEY, KEY)?;
                    self.remove(RELOCKED_KEY)?;
                    *lock = sealed_with;
                    return Ok(Some(credentials));
                }
                // It belongs to a certificate that was never written.
                Err(CertError::KeyMismatch) if key.is_some() => self.remove(NEXT_KEY)?,
                Err(error) => return Err(node(error)),
            }
        }
        let key = key.ok_or_else(|| StoreError::Missing { path: self.path(KEY) })?;
        let opened = match self.open(KEY, &key, unlock_key) {
            // The lock was being changed, and may have been everywhere else.
            Err(error @ (StoreError::Locked | StoreError::WrongKey)) => {
                let relocked = self.read(RELOCKED_KEY)?.ok_or(error)?;
                let opened = self.open(RELOCKED_KEY, &relocked, unlock_key)?;
                self.rename(RELOCKED_KEY, KEY)?;
                opened
            }
            other => other?,
        };
        self.remove(RELOCKED_KEY)?;
        let (key, sealed_with) = opened;
        let credentials = Credentials::new(trust, &certificate, &key, now).map_err(node)?;
        *lock = sealed_with;
        Ok(Some(credentials))
    }

    /// Replaces what is stored; the key is sealed as the one before.
    pub fn save(&self, credentials: &Credentials) -> Result<(), StoreError> {
        let lock = self.lock();
        self.create_folder()?;
        self.write(ROOT, credentials.trust().pem(), 0o644)?;
        self.write(NEXT_KEY, &self.sealed(credentials.key_pem(), lock.as_deref())?, 0o600)?;
        self.write(CERTIFICATE, credentials.certificate_pem(), 0o644)?;
        self.rename(NEXT_KEY, KEY)
    }

    /// Whether the key is sealed with this unlock key (or with none).
    pub fn is_locked_with(&self, unlock_key: Option<&[u8]>) -> bool {
        self.lock().as_deref() == unlock_key
    }

    /// Seals the key with `unlock_key`, or stores it in the clear again. `between` runs when the new form
    /// is on disk and the old one still counts: what is sealed with the same key elsewhere is changed
    /// there. Whichever of the two keys that uses after a crash, [`Store::load`] takes it too.
    ///
    /// # Errors
    /// Those of the disk, and `between`'s: the old form counts on.
    pub fn lock_with<E: From<StoreError>>(
        &self,
        unlock_key: Option<&[u8]>,
        between: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lock = self.lock();
        let key = self.read(KEY)?.ok_or_else(|| StoreError::Missing { path: self.path(KEY) })?;
        let (key, _) = self.open(KEY, &key, lock.as_deref())?;
        self.write(RELOCKED_KEY, &self.sealed(&key, unlock_key)?, 0o600)?;
        if let Err(error) = between() {
            self.remove(RELOCKED_KEY)?;
            return Err(error);
        }
        self.rename(RELOCKED_KEY, KEY)?;
        *lock = unlock_key.map(<[u8]>::to_vec);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Lock> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key from disk in the clear, and what it was sealed with.
    fn open(
        &self,
        name: &'static str,
        pem: &[u8],
        unlock_key: Option<&[u8]>,
    ) -> Result<(Vec<u8>, Lock), StoreError> {
        if !sealed_key::is_sealed(pem) {
            return Ok((pem.to_vec(), None));
        }
        let unlock_key = unlock_key.ok_or(StoreError::Locked)?;
        match sealed_key::open(pem, unlock_key) {
            Ok(key) => Ok((key, Some(unlock_key.to_vec()))),
            Err(SealedKeyError::WrongKey) => Err(StoreError::WrongKey),
            Err(source) => Err(StoreError::Key { path: self.path(name), source }),
        }
    }

    fn sealed(&self, key: &[u8], unlock_key: Option<&[u8]>) -> Result<Vec<u8>, StoreError> {
        match unlock_key {
            None => Ok(key.to_vec()),
            Some(unlock_key) => sealed_key::seal(key, unlock_key)
                .map_err(|source| StoreError::Key { path: self.path(KEY), source }),
        }
    }

    /// Removes the credentials, as when the node leaves its swarm. Goes on after a failure and
    /// returns the first one.
    pub fn clear(&self) -> Result<(), StoreError> {
        // The certificate first: without it nothing is there any more.
        let mut lock = self.lock();
        let results =
            [CERTIFICATE, KEY, NEXT_KEY, RELOCKED_KEY, ROOT].map(|name| self.remove(name));
        results.into_iter().collect::<Result<Vec<()>, _>>()?;
        files::remove_leftovers(&self.folder)
            .map_err(|source| self.failed("clear", self.folder.clone(), source))?;
        *lock = None;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn create_folder(&self) -> Result<(), StoreError> {
        files::make_dirs(&self.folder, 0o700)
            .map_err(|source| self.failed("create", self.folder.clone(), source))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        files::read(&self.path(name)).map_err(|source| self.failed("read", self.path(name), source))
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
        files::replace(&self.path(name), bytes, mode, Durability::Lasting)
            .map_err(|source| self.failed("write", self.path(name), source))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        files::rename(&self.path(from), &self.path(to), Durability::Lasting)
            .map_err(|source| self.failed("put in place", self.path(to), source))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        files::remove_file(&self.path(name), Durability::Volatile)
            .map_err(|source| self.failed("remove", self.path(name), source))
    }

    fn failed(&self, action: &'static str, path: PathBuf, source: io::Error) -> StoreError {
        StoreError::Io { action, path, source }
    }
}
