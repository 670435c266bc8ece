//! Shims that no container has use for.
//!
//! A daemon can be killed, and a removal can fail, at each moment; what then stays behind holds memory
//! and, at worst, a running container that nobody lists. It is not found by remembering what went wrong
//! but by comparing the processes of the host with the records, at the start and at intervals.

use std::sync::Arc;
use std::time::Duration;

use skep_container::{ShimProcess, cgroup::Cgroup};

use super::cell::Container;
use crate::engine::Engine;
use crate::util;

/// How often shims are compared with containers.
const PERIOD: Duration = Duration::from_secs(60);

impl Engine {
    /// Ends shims that no container has use for, at intervals, until the engine ends.
    pub(crate) async fn follow_shims(&self) {
        loop {
            tokio::select! {
                () = self.inner.closing.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => self.sweep_shims().await,
            }
        }
    }

    /// Compares once. What cannot be ended now is found again the next time.
    pub(crate) async fn sweep_shims(&self) {
        let bundles = self.inner.config.bundles_dir();
        let found = match util::blocking(move || ShimProcess::all_in(&bundles)).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "could not look for left shims");
                return;
            }
        };
        for shim in found {
            let Some(id) = shim.bundle().file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            match self.inner.containers.find(id) {
                Ok(c) if c.id == id => self.end_if_unused(&c, &shim).await,
                // Its folder is there before a container runs, and stays if the record is unreadable.
                _ if self.inner.config.containers_dir().join(id).exists() => {}
                _ => self.end_stray(id, &shim).await,
            }
        }
    }

    /// Ends a shim of a container that does not run and is not about to.
    async fn end_if_unused(&self, c: &Arc<Container>, shim: &ShimProcess) {
        // Held by a start, and by the handling of an end.
        let Ok(_op) = c.op.try_lock() else { return };
        if c.phase().is_running() || c.handle().is_some() {
            return;
        }
        self.end_stray(&c.id, shim).await;
    }

    /// Ends a shim and what it holds.
    async fn end_stray(&self, id: &str, shim: &ShimProcess) {
        tracing::warn!(container = id, "ending a shim that no container has use for");
        let process = shim.clone();
        if let Err(error) = util::blocking(move || process.end()).await {
            tracing::warn!(container = id, %error, "could not end a left shim");
            return;
        }
        if let Err(error) = self.inner.runtime.clean_up(id, shim.bundle()).await {
            tracing::warn!(
                container = id,
                error = &error as &dyn std::error::Error,
                "could not remove what a left shim held"
            );
        }
        // Without its bundle nothing says where the group is; this is where it is by default.
        let group = Cgroup::at(&super::spec::default_cgroup(id, &self.inner.config));
        if let Err(error) = util::blocking(move || group.kill_and_remove()).await {
            tracing::warn!(
                container = id,
                error = &error as &dyn std::error::Error,
                "could not remove the control group of a left shim"
            );
        }
    }
}
