use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_types::Repeated;

use skep_pki::StoreError;
use thiserror::Error;

use crate::raft::{KeyFileError, RaftNode};
use crate::shared::Shared;

/// Pause before keys that could not be stored are stored again.
const RETRY: Duration = Duration::from_secs(2);

/// Why what is on disk could not be sealed anew.
#[derive(Debug, Error)]
enum LockError {
    #[error("cannot store the node's key")]
    Certificates(#[from] StoreError),
    #[error("cannot store the raft log's keys")]
    Raft(#[source] KeyFileError),
}

/// Keeps the node's key and the raft log's keys on disk sealed as the swarm wants it: with its unlock
/// key when autolock is on, else in the clear. Until the manager stops.
pub(crate) async fn keep_locked(
    shared: Arc<Shared>,
    mut node: RaftNode,
    certificates: skep_pki::Store,
) {
    let mut index = shared.cell.index();
    let mut trouble = Repeated::default();
    loop {
        let mut retry = None;
        index.borrow_and_update();
        let store = shared.read();
        // Without a cluster object nothing is known yet.
        if let Some(cluster) = store.cluster() {
            let key = cluster.unlock_keys.first().map(|key| key.key.0.clone());
            let as_wanted =
                node.is_locked_with(key.as_deref()) && certificates.is_locked_with(key.as_deref());
            if !as_wanted {
                let certificates = certificates.clone();
                let stored = tokio::task::spawn_blocking(move || {
                    let stored = lock(&node, &certificates, key.as_deref());
                    (node, key.is_some(), stored)
                });
                match stored.await {
                    Ok((returned, locked, Ok(()))) => {
                        trouble.succeeded();
                        tracing::info!(locked, "the keys of node and raft log are stored anew");
                        node = returned;
                    }
                    Ok((returned, _, Err(error))) => {
                        let error = skep_types::report(&error);
                        if let Some(failures) = trouble.failed(Instant::now(), &error) {
                            tracing::error!(
                                error,
                                failures,
                                "cannot seal keys as the swarm wants it"
                            );
                        }
                        retry = Some(RETRY);
                        node = returned;
                    }
                    Err(_) => return,
                }
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = async { tokio::time::sleep(retry.unwrap_or_default()).await }, if retry.is_some() => {}
            changed = index.changed() => if changed.is_err() { return },
        }
    }
}

/// The raft log's keys are what counts: the node's key follows them, before or after.
fn lock(
    node: &RaftNode,
    certificates: &skep_pki::Store,
    key: Option<&[u8]>,
) -> Result<(), LockError> {
    certificates.lock_with(key, || node.lock_with(key).map_err(LockError::Raft))
}
