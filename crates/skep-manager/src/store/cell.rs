use std::sync::{Arc, PoisonError, RwLock};

use skep_control::{Changes, ObjectKey, Store};
use tokio::sync::{broadcast, watch};

/// Batches a watcher may be behind before it is told to read everything again.
const WATCH_BACKLOG: usize = 1024;

/// The applied store of this manager: one writer (the raft state machine), any number of readers.
#[derive(Clone)]
pub(crate) struct StoreCell {
    inner: Arc<Inner>,
}

struct Inner {
    store: RwLock<Store>,
    changes: broadcast::Sender<Arc<Changes>>,
    index: watch::Sender<u64>,
}

impl StoreCell {
    pub fn new(store: Store) -> Self {
        let index = store.index();
        Self {
            inner: Arc::new(Inner {
                store: RwLock::new(store),
                changes: broadcast::Sender::new(WATCH_BACKLOG),
                index: watch::Sender::new(index),
            }),
        }
    }

    /// The store as it is now; later changes do not show in it. Cheap.
    pub fn read(&self) -> Store {
        self.inner.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the next store and tells watchers how it differs.
    pub fn advance(&self, store: Store, changes: impl IntoIterator<Item = Arc<Changes>>) {
        let index = store.index();
        // Changes are sent under the lock, so that `watch` sees each exactly once: in the store that
        // it starts from, or as a change.
        let mut current = self.inner.store.write().unwrap_or_else(PoisonError::into_inner);
        *current = store;
        for change in changes {
            // Nobody watching is fine.
            let _ = self.inner.changes.send(change);
        }
        drop(current);
        self.inner.index.send_replace(index);
    }

    /// Puts a store that has nothing to do with the last (an installed snapshot): every watcher is
    /// told to read again.
    pub fn replace(&self, store: Store) {
        let marker = Arc::new(Changes { index: u64::MAX, list: Vec::new() });
        self.advance(store, [marker]);
    }

    /// The store now and everything that happens to it from here on.
    pub fn watch(&self) -> (Store, Watcher) {
        let current = self.inner.store.read().unwrap_or_else(PoisonError::into_inner);
        let watcher = Watcher { cell: self.clone(), changes: self.inner.changes.subscribe() };
        (current.clone(), watcher)
    }

    /// The index of the store, as it grows.
    pub fn index(&self) -> watch::Receiver<u64> {
        self.inner.index.subscribe()
    }
}

/// What a [`Watcher`] saw.
#[derive(Clone, Debug)]
pub enum Watched {
    /// One committed batch.
    Changes(Arc<Changes>),
    /// Too much happened at once: start again from this store.
    Reread(Store),
}

/// Follows the store from the moment it was made.
pub struct Watcher {
    cell: StoreCell,
    changes: broadcast::Receiver<Arc<Changes>>,
}

impl Watcher {
    /// The next batch. Cancel safe. `None` once the manager is gone.
    pub async fn next(&mut self) -> Option<Watched> {
        match self.changes.recv().await {
            Ok(changes) if changes.index == u64::MAX => Some(self.reread()),
            Ok(changes) => Some(Watched::Changes(changes)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(self.reread()),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// Waits until the cluster object may have changed; for ever once the manager is gone. Cancel safe.
    pub async fn cluster_changed(&mut self) {
        loop {
            match self.next().await {
                Some(Watched::Reread(_)) => return,
                Some(Watched::Changes(changes)) => {
                    let mut keys = changes.list.iter().map(|change| change.key());
                    if keys.any(|key| matches!(key, ObjectKey::Cluster(_))) {
                        return;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// The next batch, if there is one already.
    pub fn try_next(&mut self) -> Option<Watched> {
        match self.changes.try_recv() {
            Ok(changes) if changes.index == u64::MAX => Some(self.reread()),
            Ok(changes) => Some(Watched::Changes(changes)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(self.reread()),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => {
                None
            }
        }
    }

    fn reread(&mut self) -> Watched {
        let (store, watcher) = self.cell.watch();
        *self = watcher;
        Watched::Reread(store)
    }
}
