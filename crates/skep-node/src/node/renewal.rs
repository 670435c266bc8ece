//! Keeps the node's certificate fresh, in the role it is to have, under the swarm's current root.

use std::sync::Arc;
use std::time::Duration;

use skep_agent::SessionView;
use skep_pki::{Credentials, TlsHandle, TrustRoot, renewal_delay};
use skep_types::IssuanceState;
use tokio::sync::watch;

use super::clock::now;

/// Docker's pause before it follows a manager's wish for a new certificate.
const WISH_PAUSE: Duration = Duration::from_millis(500);
const RETRY_BASE: Duration = Duration::from_secs(5);
const RETRY_FACTOR: u32 = 5;
const RETRY_MAX: Duration = Duration::from_secs(3600);

type View = watch::Receiver<Option<Arc<SessionView>>>;

/// Runs until it is aborted with its membership.
pub(super) async fn run(
    tls: TlsHandle,
    mut view: View,
    store: skep_pki::Store,
    first_managers: Vec<String>,
) {
    let mut pause = Duration::ZERO;
    let mut chance: f64 = rand::random();
    loop {
        let current = tls.current();
        let newest = view.borrow_and_update().clone();
        if let Some(newest) = &newest
            && follow_root(&tls, &store, &newest.root_pem).await
        {
            continue;
        }
        let identity = current.identity();
        let due = renewal_delay(identity.not_before, identity.not_after, now(), chance);
        let wait = if newest.as_ref().is_some_and(|view| is_wished(view, &current)) {
            WISH_PAUSE.max(pause)
        } else {
            due.max(pause)
        };
        tokio::select! {
            changed = view.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = tokio::time::sleep(wait) => {}
        }
        let managers = match &newest {
            Some(view) => view.managers.iter().map(|manager| manager.addr.clone()).collect(),
            None => first_managers.clone(),
        };
        match skep_pki::renew(&managers, &tls).await {
            Ok(credentials) => {
                if keep(&tls, &store, credentials).await {
                    pause = Duration::ZERO;
                    chance = rand::random();
                    tracing::info!("renewed the node's certificate");
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot renew the node's certificate"
                );
            }
        }
        pause = (pause * RETRY_FACTOR).clamp(RETRY_BASE, RETRY_MAX);
    }
}

/// Whether the swarm wants this node to have another certificate now.
fn is_wished(view: &SessionView, current: &Credentials) -> bool {
    view.node.certificate.state == IssuanceState::Rotate
        || view.node.role != current.identity().role
}

/// Takes over a changed root that our certificate verifies against; true if it did.
async fn follow_root(tls: &TlsHandle, store: &skep_pki::Store, root_pem: &[u8]) -> bool {
    let current = tls.current();
    if root_pem.is_empty() || current.trust().pem() == root_pem {
        return false;
    }
    let moved =
        TrustRoot::from_pem(root_pem, now()).and_then(|trust| current.with_trust(trust, now()));
    match moved {
        Ok(credentials) => keep(tls, store, credentials).await,
        Err(error) => {
            // The certificate has to be renewed first; then it will verify.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "not following the swarm's new root yet"
            );
            false
        }
    }
}

/// On disk first, then in use.
async fn keep(tls: &TlsHandle, store: &skep_pki::Store, credentials: Credentials) -> bool {
    let store = store.clone();
    let saved =
        tokio::task::spawn_blocking(move || store.save(&credentials).map(|()| credentials)).await;
    match saved {
        Ok(Ok(credentials)) => {
            tls.replace(credentials);
            true
        }
        Ok(Err(error)) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot store the node's certificate"
            );
            false
        }
        Err(_) => false,
    }
}
