use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_sys::files::{self, Durability};
use skep_types::Timestamp;
use thiserror::Error;

use crate::credentials;
use crate::sealed_key::{self, SealedKeyError};
use crate::{CertError, Credentials, TrustRoot};

const KEY: &str = "swarm-node.key";
const CERTIFICATE: &str = "swarm-node.crt";
const ROOT: &str = "swarm-root-ca.crt";

/// The key of the certificate that is about to be written.
const NEXT_KEY: &str = "swarm-node.key.next";

/// The same key as in [`KEY`], as it will be there after a change of the lock.
const RELOCKED_KEY: &str = "swarm-node.key.relocked";

/// What earlier versions wrote keys to before they renamed them. A crash left them there.
const EARLIER_LEFTOVERS: [&str; 2] = ["swarm-node.key.tmp", "swarm-node.key.next.tmp"];

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
/// A change of the lock that was interrupted leaves the key in two forms, either of which counts until the
/// next [`Store::lock_with`]: only when the raft log has opened it is known which one belongs to it.
///
/// A locked manager's key is sealed with the swarm's unlock key, which is on no disk. Clones share what
/// they know of it, and work one after the other.
#[derive(Clone)]
pub struct Store {
    folder: PathBuf,
    lock: Arc<Mutex<Lock>>,
}

/// What a key is sealed with; `None`: it is in the clear.
type SealedWith = Option<Vec<u8>>;

#[derive(Default)]
struct Lock {
    /// The key on disk.
    sealed_with: SealedWith,
    /// A change of the lock was begun and not finished: there may be another form of the key.
    between: bool,
}

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
        EARLIER_LEFTOVERS.into_iter().try_for_each(|name| self.remove(name))?;
        let (key, certificate, root) = (self.read(KEY)?, self.read(CERTIFICATE)?, self.read(ROOT)?);
        let (next, relocked) = (self.read(NEXT_KEY)?, self.read(RELOCKED_KEY)?);
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
        let fitting = |key: &[u8]| match Credentials::new(trust.clone(), &certificate, key, now) {
            Err(CertError::KeyMismatch) => Ok(None),
            other => other.map(Some).map_err(node),
        };
        let between = relocked.is_some();
        let mut closed = None;
        if let Some(next) = next {
            match self.open(NEXT_KEY, &next, unlock_key) {
                Ok((next, sealed_with)) => match fitting(&next)? {
                    Some(credentials) => {
                        self.rename(NEXT_KEY, KEY)?;
                        *lock = Lock { sealed_with, between };
                        return Ok(Some(credentials));
                    }
                    // It belongs to a certificate that was never written.
                    None if key.is_some() => self.remove(NEXT_KEY)?,
                    None => return Err(node(CertError::KeyMismatch)),
                },
                // The same, from before a change of the lock; unless the key does not fit either.
                Err(error @ (StoreError::Locked | StoreError::WrongKey)) => closed = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some(key) = key else {
            return Err(closed.unwrap_or_else(|| StoreError::Missing { path: self.path(KEY) }));
        };
        let (credentials, sealed_with) = match self.open(KEY, &key, unlock_key) {
            Ok((key, sealed_with)) => (fitting(&key)?, sealed_with),
            // The lock was being changed, and may have been everywhere else.
            Err(error @ (StoreError::Locked | StoreError::WrongKey)) => {
                let relocked = relocked
                    .map(|relocked| self.open(RELOCKED_KEY, &relocked, unlock_key))
                    .transpose();
                let opened = match relocked {
                    Err(StoreError::Locked | StoreError::WrongKey) => None,
                    other => other?,
                };
                let Some((relocked, sealed_with)) = opened else { return Err(error) };
                closed = Some(error);
                (fitting(&relocked)?, sealed_with)
            }
            Err(error) => return Err(error),
        };
        let Some(credentials) = credentials else {
            return Err(closed.unwrap_or_else(|| node(CertError::KeyMismatch)));
        };
        *lock = Lock { sealed_with, between };
        Ok(Some(credentials))
    }

    /// Replaces what is stored; the key is sealed as the one before.
    pub fn save(&self, credentials: &Credentials) -> Result<(), StoreError> {
        let lock = self.lock();
        self.create_folder()?;
        self.write(ROOT, credentials.trust().pem(), 0o644)?;
        self.write(
            NEXT_KEY,
            &self.sealed(credentials.key_pem(), lock.sealed_with.as_deref())?,
            0o600,
        )?;
        self.write(CERTIFICATE, credentials.certificate_pem(), 0o644)?;
        self.rename(NEXT_KEY, KEY)
    }

    /// Whether the key is sealed with this unlock key (or with none), and no other form of it is left.
    pub fn is_locked_with(&self, unlock_key: Option<&[u8]>) -> bool {
        let lock = self.lock();
        !lock.between && lock.sealed_with.as_deref() == unlock_key
    }

    /// Seals the key with `unlock_key`, or stores it in the clear again. `between` runs when the new form
    /// is on disk and the old one still counts: what is sealed with the same key elsewhere is changed
    /// there. Whichever of the two keys that uses after a crash, [`Store::load`] takes it too.
    ///
    /// Call it only when what is sealed elsewhere has been opened with the key that [`Store::load`] had: a
    /// form that did not fit that key is given up.
    ///
    /// # Errors
    /// Those of the disk, and `between`'s: which form counts is open until the next call, as `between` may
    /// have changed something before it failed.
    pub fn lock_with<E: From<StoreError>>(
        &self,
        unlock_key: Option<&[u8]>,
        between: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lock = self.lock();
        self.settle_next(lock.sealed_with.as_deref())?;
        let key = self.settled_key(lock.sealed_with.as_deref())?;
        lock.between = true;
        self.write(RELOCKED_KEY, &self.sealed(&key, unlock_key)?, 0o600)?;
        between()?;
        self.rename(RELOCKED_KEY, KEY)?;
        *lock = Lock { sealed_with: unlock_key.map(<[u8]>::to_vec), between: false };
        Ok(())
    }

    /// Finishes or gives up a replacement that failed half-way: its key has the lock of now, and would not
    /// get the next one.
    fn settle_next(&self, unlock_key: Option<&[u8]>) -> Result<(), StoreError> {
        let Some(next) = self.read(NEXT_KEY)? else { return Ok(()) };
        let certificate = self
            .read(CERTIFICATE)?
            .ok_or_else(|| StoreError::Missing { path: self.path(CERTIFICATE) })?;
        let fits = match self.open(NEXT_KEY, &next, unlock_key) {
            Ok((next, _)) => credentials::belong_together(&certificate, &next)
                .map_err(|source| StoreError::Node { path: self.path(CERTIFICATE), source })?,
            // It was left by an earlier run, which the node's key outlived.
            Err(StoreError::Locked | StoreError::WrongKey) => false,
            Err(error) => return Err(error),
        };
        if fits { self.rename(NEXT_KEY, KEY) } else { self.remove(NEXT_KEY) }
    }

    /// The key in the clear. If it was its other form that opened, that takes its place first.
    fn settled_key(&self, unlock_key: Option<&[u8]>) -> Result<Vec<u8>, StoreError> {
        let key = self.read(KEY)?.ok_or_else(|| StoreError::Missing { path: self.path(KEY) })?;
        match self.open(KEY, &key, unlock_key) {
            Err(error @ (StoreError::Locked | StoreError::WrongKey)) => {
                let relocked = self.read(RELOCKED_KEY)?.ok_or(error)?;
                let (key, _) = self.open(RELOCKED_KEY, &relocked, unlock_key)?;
                self.rename(RELOCKED_KEY, KEY)?;
                Ok(key)
            }
            opened => opened.map(|(key, _)| key),
        }
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
    ) -> Result<(Vec<u8>, SealedWith), StoreError> {
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
        let names = [CERTIFICATE, KEY, NEXT_KEY, RELOCKED_KEY, ROOT].into_iter();
        let results: Vec<_> =
            names.chain(EARLIER_LEFTOVERS).map(|name| self.remove(name)).collect();
        results.into_iter().collect::<Result<Vec<()>, _>>()?;
        files::remove_leftovers(&self.folder)
            .map_err(|source| self.failed("clear", self.folder.clone(), source))?;
        *lock = Lock::default();
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
