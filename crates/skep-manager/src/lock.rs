use std::sync::Arc;

use crate::raft::RaftNode;
use crate::shared::Shared;

/// Keeps the data keys on disk sealed as the swarm wants it: with its unlock key when autolock is on,
/// else in the clear. Until the manager stops.
pub(crate) async fn keep_locked(shared: Arc<Shared>, mut node: RaftNode) {
    let mut index = shared.cell.index();
    loop {
        index.borrow_and_update();
        let store = shared.read();
        // Without a cluster object nothing is known yet.
        if let Some(cluster) = store.cluster() {
            let key = cluster.unlock_keys.first().map(|key| key.key.0.clone());
            if !node.is_locked_with(key.as_deref()) {
                let stored = tokio::task::spawn_blocking(move || {
                    let stored = node.lock_with(key.as_deref());
                    (node, key.is_some(), stored)
                });
                match stored.await {
                    Ok((returned, locked, Ok(()))) => {
                        tracing::info!(locked, "the raft log's keys are stored anew");
                        node = returned;
                    }
                    Ok((returned, _, Err(error))) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "cannot store the raft log's keys"
                        );
                        node = returned;
                    }
                    Err(_) => return,
                }
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            changed = index.changed() => if changed.is_err() { return },
        }
    }
}
