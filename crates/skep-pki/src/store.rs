use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use skep_types::Timestamp;
use thiserror::Error;

use crate::{CertError, Credentials, TrustRoot};

const KEY: &str = "swarm-node.key";
const CERTIFICATE: &str = "swarm-node.crt";
const ROOT: &str = "swarm-root-ca.crt";

/// The key of the certificate that is about to be written.
const NEXT_KEY: &str = "swarm-node.key.next";

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
}

/// A folder with a node's credentials: `swarm-node.key` (PKCS#8, mode 0600), `swarm-node.crt` and
/// `swarm-root-ca.crt`. Calls block on the disk.
///
/// A crash at any moment leaves either the old or the new credentials: the new key is put beside the
/// old one first, then the certificate is replaced, then the key. [`Store::load`] finishes a
/// replacement that was interrupted between the two.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Reads the credentials, `None` if there are none.
    ///
    /// Fails if some of the files are missing, broken, or do not belong together, and if the
    /// certificate is not valid at `now`.
    pub fn load(&self, now: Timestamp) -> Result<Option<Credentials>, StoreError> {
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
            match Credentials::new(trust.clone(), &certificate, &next, now) {
                Ok(credentials) => {
                    self.rename(NEXT_KEY, KEY)?;
                    return Ok(Some(credentials));
                }
                // It belongs to a certificate that was never written.
                Err(CertError::KeyMismatch) if key.is_some() => self.remove(NEXT_KEY)?,
                Err(error) => return Err(node(error)),
            }
        }
        let key = key.ok_or_else(|| StoreError::Missing { path: self.path(KEY) })?;
        Credentials::new(trust, &certificate, &key, now).map(Some).map_err(node)
    }

    /// Replaces what is stored.
    pub fn save(&self, credentials: &Credentials) -> Result<(), StoreError> {
        self.create_folder()?;
        self.write(ROOT, credentials.trust().pem(), 0o644)?;
        self.write(NEXT_KEY, credentials.key_pem(), 0o600)?;
        self.write(CERTIFICATE, credentials.certificate_pem(), 0o644)?;
        self.rename(NEXT_KEY, KEY)
    }

    /// Removes the credentials, as when the node leaves its swarm. Goes on after a failure and
    /// returns the first one.
    pub fn clear(&self) -> Result<(), StoreError> {
        // The certificate first: without it nothing is there any more.
        let results = [CERTIFICATE, KEY, NEXT_KEY, ROOT].map(|name| self.remove(name));
        results.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn create_folder(&self) -> Result<(), StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|source| self.failed("create", self.folder.clone(), source))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed("read", self.path(name), source)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
        let aside = self.path(&format!("{name}.tmp"));
        write_synced(&aside, bytes, mode)
            .map_err(|source| self.failed("write", aside.clone(), source))?;
        self.rename(&format!("{name}.tmp"), name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        fs::rename(self.path(from), self.path(to))
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|source| self.failed("put in place", self.path(to), source))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove", self.path(name), error))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, path: PathBuf, source: io::Error) -> StoreError {
        StoreError::Io { action, path, source }
    }
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // A file left by an interrupted write keeps its old mode otherwise.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}
