//! Work of the engine on volumes that may be mounts of their own.

use std::time::Duration;

use crate::engine::Engine;
use crate::error::Result;
use crate::util;

/// How long the end of a container waits for the mounts of its volumes to be taken away.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Does work on volumes where it may block: aside if one of them is a mount of its own.
    ///
    /// # Errors
    /// As the work, and [`super::aside::Aside::run`].
    pub(crate) async fn with_volumes<T: Send + 'static>(
        &self,
        names: Vec<String>,
        work: impl FnOnce(&Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        if self.any_mounted(names).await {
            self.inner.volumes.aside.run(move || work(&this)).await?
        } else {
            util::blocking(move || work(&this)).await
        }
    }

    /// Lets volumes go at the end of a container. A mount that hangs is left to a thread after some time.
    pub(crate) async fn let_volumes_go(
        &self,
        names: Vec<String>,
        work: impl FnOnce(&Engine) + Send + 'static,
    ) {
        let this = self.clone();
        if !self.any_mounted(names).await {
            return util::blocking(move || work(&this)).await;
        }
        let done = tokio::spawn(async move {
            let engine = this.clone();
            this.inner.volumes.aside.run_in_the_end(move || work(&engine)).await
        });
        match tokio::time::timeout(LEAVE_LIMIT, done).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not let volumes go"
                );
            }
            Ok(Err(error)) => tracing::warn!(%error, "could not let volumes go"),
            Err(_) => tracing::warn!("a volume's mount takes its time to go; it is not waited for"),
        }
    }

    /// Whether one of these volumes is a mount of its own, so that what is done with it may hang.
    pub(crate) async fn any_mounted(&self, names: Vec<String>) -> bool {
        if names.is_empty() {
            return false;
        }
        let this = self.clone();
        util::blocking(move || names.iter().any(|name| this.inner.volumes.has_mount(name))).await
    }
}
