//! Waiting for containers.

use std::future::Future;

use bollard_stubs::models::{ContainerWaitExitError, ContainerWaitResponse};
use tokio::sync::watch;

use super::watch::{Glance, Phase};
use crate::engine::Engine;
use crate::error::Result;
use crate::options::WaitCondition;

impl Engine {
    /// Registers at once; the returned future resolves when the condition is met. Send the HTTP
    /// response's head between the two: clients wait for it before they start the container.
    ///
    /// # Errors
    /// `NoSuchContainer`.
    pub fn container_wait(
        &self,
        container: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = ContainerWaitResponse> + Send + 'static> {
        let c = self.inner.containers.find(container)?;
        let mut watch = c.watch();
        let exits = watch.borrow().exits;
        Ok(async move {
            let met = |g: &Glance| match condition {
                WaitCondition::NotRunning => {
                    g.removed
                        || !matches!(g.phase, Phase::Running | Phase::Paused | Phase::Restarting)
                }
                WaitCondition::NextExit => g.removed || g.exits > exits,
                WaitCondition::Removed => g.removed,
            };
            // The container's last owner going away is its removal.
            let last = match watch.wait_for(met).await {
                Ok(glance) => glance.clone(),
                Err(_) => Glance::default(),
            };
            // Kept until the end, so that the sender is not the last owner.
            drop(c);
            // Who waits for an end or a removal has started the container too, and was told there why
            // that failed; only a look at a container that does not run tells it again.
            let tell = condition == WaitCondition::NotRunning && !last.error.is_empty();
            ContainerWaitResponse {
                status_code: last.exit_code,
                error: tell.then_some(ContainerWaitExitError { message: Some(last.error) }),
            }
        })
    }

    /// Changes of a container as they happen, with the present state at once.
    ///
    /// # Errors
    /// `NoSuchContainer`.
    pub fn container_watch(&self, container: &str) -> Result<watch::Receiver<Glance>> {
        Ok(self.inner.containers.find(container)?.watch())
    }
}
