//! The store: one index in memory, small files on disk.
//!
//! Locks, in the order they may be taken: `commit` (held while names and records change on disk;
//! never on a runtime thread), then `state` (short, memory and renames only).

mod again;
mod files;
mod filter;
mod image;
mod layers;
mod open;
mod query;
mod recover;
mod register;
mod remove;
mod state;
mod sweep;
mod work;

use std::{
    collections::HashMap,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

pub(crate) use files::Files;
pub(crate) use layers::NewLayer;
pub(crate) use register::NewImage;
pub(crate) use state::{Record, State};
pub(crate) use work::Work;

use skep_sys::files::Reserve;

use crate::{
    blocking::blocking,
    digest::ChainId,
    error::Result,
    registry::Registry,
    root::Root,
    settings::{RegistryConfig, Settings},
};

/// All images of one host. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Images {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) files: Files,
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    state: Mutex<State>,
    commit: Mutex<()>,
    /// Layers being unpacked: a second operation waits and finds the layer there.
    unpacking: Mutex<HashMap<ChainId, Arc<tokio::sync::Mutex<()>>>>,
    /// Container roots that somebody looks into.
    pub(crate) roots: Mutex<HashMap<String, Weak<Root>>>,
    /// Lets images be removed when the disk is full.
    reserve: Reserve,
    /// Held as long as the store is open.
    _lock: File,
}

impl Images {
    /// Opens (or makes) the store below `root` with the default limits.
    ///
    /// # Errors
    /// As [`Images::open_with`].
    pub fn open(root: PathBuf, cfg: RegistryConfig) -> Result<Self> {
        Self::open_with(root, cfg.into())
    }

    /// Opens (or makes) the store below `root` and removes what interrupted operations left there. What
    /// cannot be read, and what no image is known for, stays ([`Images::problems`]). Blocking.
    ///
    /// # Errors
    /// [`crate::Error::Locked`] if another process has it open, [`crate::Error::Store`] and
    /// [`crate::Error::Damaged`] when it cannot be read, [`crate::Error::Registry`] for settings that
    /// make no sense.
    pub fn open_with(root: PathBuf, settings: Settings) -> Result<Self> {
        open::open(root, settings).map(|inner| Self { inner: Arc::new(inner) })
    }

    /// Changes which registries may be spoken to without verified TLS, and the mirrors of Docker Hub,
    /// from the next transfer on. `certs_dir` stays what it was.
    ///
    /// # Errors
    /// [`crate::Error::Registry`] for settings that make no sense; the old ones hold then.
    pub fn set_registries(&self, config: &RegistryConfig) -> Result<()> {
        self.inner.registry.set_rules(config)
    }

    /// Runs blocking work. Dropping the future does not stop it.
    pub(crate) async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Inner>) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn committing(&self) -> MutexGuard<'_, ()> {
        lock(&self.commit)
    }

    /// The lock for unpacking one layer.
    pub(crate) fn unpacking(&self, chain: ChainId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = lock(&self.unpacking);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(chain).or_default())
    }
}

/// Nothing here panics between two steps of a change, so a poisoned lock still guards sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
