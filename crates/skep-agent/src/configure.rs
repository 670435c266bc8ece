use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skep_types::{EncryptionKey, Node};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Executor, SessionView};
use skep_types::report;

/// Pause before the executor is asked again after an error.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the executor's idea of the node and the network keys up to date, until the agent stops.
pub(crate) async fn follow(
    executor: Arc<dyn Executor>,
    mut view: watch::Receiver<Option<Arc<SessionView>>>,
    stop: CancellationToken,
) {
    let mut configured: Option<Node> = None;
    let mut known_keys = BTreeSet::new();
    let mut known_managers = Vec::new();
    loop {
        let current = view.borrow_and_update().clone();
        let work = async {
            let mut failed = false;
            let Some(view) = current else { return failed };
            if is_new(&view.network_keys, &known_keys)
                || (!known_keys.is_empty() && known_managers != view.managers)
            {
                match executor.set_network_keys(&view.network_keys, &view.managers).await {
                    Ok(()) => {
                        known_keys = lamport_times(&view.network_keys);
                        known_managers.clone_from(&view.managers);
                    }
                    Err(error) => {
                        failed = true;
                        tracing::error!(error = report(&error), "cannot set the network keys");
                    }
                }
            }
            if configured.as_ref() != Some(&view.node) {
                match executor.configure(&view.node).await {
                    Ok(()) => configured = Some(view.node.clone()),
                    Err(error) => {
                        failed = true;
                        tracing::error!(error = report(&error), "cannot configure the node");
                    }
                }
            }
            failed
        };
        let failed = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            failed = work => failed,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Keys are told apart by their time alone, which is unique over all of them.
fn lamport_times(keys: &[EncryptionKey]) -> BTreeSet<u64> {
    keys.iter().map(|key| key.lamport_time).collect()
}

fn is_new(keys: &[EncryptionKey], known: &BTreeSet<u64>) -> bool {
    keys.iter().any(|key| !known.contains(&key.lamport_time))
}
