//! Taking down what a start has made: shim, network, root, shared memory, volumes.
//!
//! A start that fails, an end, a daemon that finds what another has left, and the removal of a damaged
//! container come here: whatever a start makes is taken down in this file and nowhere else. Each step is made
//! whatever becomes of the others, and a step of which nothing was made is none.

use std::sync::Arc;

use skep_container::Handle;

use super::cell::Container;
use super::record::Record;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::util;

impl Engine {
    /// Takes down all of a container that does not run (any more). What fails is told in the log, and is found
    /// again by whoever looks for what nobody needs.
    pub(super) async fn take_down(&self, c: &Arc<Container>, record: &Record) {
        let handle = c.live(|l| l.handle.take());
        // The network does not care whether the shim is there; it is the shim that holds the root's mount and
        // the volumes'.
        let (ended, ()) = tokio::join!(self.end_shim(c, handle), self.drop_network(c, record));
        self.warn(c, ended);
        tokio::join!(self.free_root(c), self.leave_mounts(c, record));
    }

    /// Takes down what the host's kernel holds of a start that no daemon has finished: of its network and its
    /// volumes only a daemon knows, and this one does not.
    pub(super) async fn take_down_unfinished(&self, c: &Arc<Container>) {
        let ended = self.end_shim(c, None).await;
        self.warn(c, ended);
        self.free_root(c).await;
    }

    /// Takes down what is left of a container whose volumes are not known. If its shim cannot be ended it stays
    /// as it is.
    ///
    /// # Errors
    /// What the shim or the kernel says.
    pub(super) async fn take_down_damaged(
        &self,
        c: &Arc<Container>,
        handle: Option<Handle>,
    ) -> Result<()> {
        self.end_shim(c, handle).await?;
        self.drop_network(c, &c.record()).await;
        self.free_root(c).await;
        Ok(())
    }

    /// Ends the shim, or what one left that is gone.
    async fn end_shim(&self, c: &Container, handle: Option<Handle>) -> Result<()> {
        match handle {
            Some(handle) => {
                let ended = handle.delete().await;
                ended.map_err(|error| EngineError::system("could not remove a shim", error))
            }
            None => {
                let bundle = self.inner.config.bundles_dir().join(&c.id);
                let cleaned = self.inner.runtime.clean_up(&c.id, &bundle).await;
                cleaned.map_err(|e| EngineError::system("could not remove what a shim left", e))
            }
        }
    }

    /// Unmounts the root, and the memory that others could have shared.
    async fn free_root(&self, c: &Arc<Container>) {
        let (this, id) = (self.clone(), c.id.clone());
        let freed = util::blocking(move || {
            this.take_shared_shm(&id);
            Ok(this.inner.images.unmount(&id)?)
        });
        let freed = freed.await;
        self.warn(c, freed);
    }

    fn warn(&self, c: &Container, done: Result<()>) {
        if let Err(error) = done {
            tracing::warn!(
                container = c.id,
                error = &error as &dyn std::error::Error,
                "something of a container could not be taken down"
            );
        }
    }
}
