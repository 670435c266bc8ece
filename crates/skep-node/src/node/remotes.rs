//! The managers this node knows, kept for the next start: those it joined by may be gone by then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_agent::SessionView;
use skep_types::Repeated;
use tokio::sync::watch;

use crate::state::Folder;

/// Pause before a list that could not be written is written again.
const RETRY: Duration = Duration::from_secs(2);

/// Writes the managers that sessions name to disk whenever they change. Runs until it is aborted with
/// its membership.
pub(super) async fn keep(folder: Folder, mut view: watch::Receiver<Option<Arc<SessionView>>>) {
    let mut stored = Vec::new();
    let mut trouble = Repeated::default();
    loop {
        let mut failed = false;
        let managers: Vec<String> = match &*view.borrow_and_update() {
            Some(view) => view.managers.iter().map(|manager| manager.addr.clone()).collect(),
            None => Vec::new(),
        };
        if !managers.is_empty() && managers != stored {
            let (folder, list) = (folder.clone(), managers.clone());
            match tokio::task::spawn_blocking(move || folder.store_managers(&list)).await {
                Ok(Ok(())) => {
                    trouble.succeeded();
                    stored = managers;
                }
                Ok(Err(error)) => {
                    failed = true;
                    let error = skep_types::report(&error);
                    if let Some(failures) = trouble.failed(Instant::now(), &error) {
                        tracing::error!(
                            error,
                            failures,
                            "cannot store the swarm's managers; a restart will only know those joined by"
                        );
                    }
                }
                // The runtime is ending.
                Err(_) => return,
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}
