//! The managers this node knows, kept for the next start: those it joined by may be gone by then.

use std::sync::Arc;

use skep_agent::SessionView;
use tokio::sync::watch;

use crate::state::Folder;

/// Writes the managers that sessions name to disk whenever they change. Runs until it is aborted with
/// its membership.
pub(super) async fn keep(folder: Folder, mut view: watch::Receiver<Option<Arc<SessionView>>>) {
    let mut stored = Vec::new();
    loop {
        let managers: Vec<String> = match &*view.borrow_and_update() {
            Some(view) => view.managers.iter().map(|manager| manager.addr.clone()).collect(),
            None => Vec::new(),
        };
        if !managers.is_empty() && managers != stored {
            stored.clone_from(&managers);
            let folder = folder.clone();
            let done = tokio::task::spawn_blocking(move || folder.store_managers(&managers)).await;
            if let Ok(Err(error)) = done {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot store the swarm's managers; a restart will only know those joined by"
                );
            }
        }
        if view.changed().await.is_err() {
            return;
        }
    }
}
