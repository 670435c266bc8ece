//! Keeps the node's certificate fresh, in the role it is to have, under the swarm's current root.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_agent::SessionView;
use skep_pki::{Credentials, TlsHandle, TrustRoot, renewal_delay};
use skep_types::{IssuanceState, Repeated};
use tokio::sync::watch;

use super::clock::now;

/// Docker's pause before it follows a manager's wish for a new certificate.
const WISH_PAUSE: Duration = Duration::from_millis(500);
const RETRY_BASE: Duration = Duration::from_secs(5);
const RETRY_FACTOR: u32 = 5;
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Pause before a certificate that could not be stored is stored again.
const STORE_RETRY: Duration = Duration::from_secs(2);

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
            && let Some(moved) = under_root(&tls, &newest.root_pem)
        {
            tls.replace(stored(&store, moved).await);
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
                tls.replace(stored(&store, credentials).await);
                pause = Duration::ZERO;
                chance = rand::random();
                tracing::info!("renewed the node's certificate");
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot renew the node's certificate"
                );
                pause = (pause * RETRY_FACTOR).clamp(RETRY_BASE, RETRY_MAX);
            }
        }
    }
}

/// Whether the swarm wants this node to have another certificate now.
fn is_wished(view: &SessionView, current: &Credentials) -> bool {
    view.node.certificate.state == IssuanceState::Rotate
        || view.node.role != current.identity().role
}

/// Our certificate under the swarm's changed root, if it verifies against it.
fn under_root(tls: &TlsHandle, root_pem: &[u8]) -> Option<Credentials> {
    let current = tls.current();
    if root_pem.is_empty() || current.trust().pem() == root_pem {
        return None;
    }
    let moved =
        TrustRoot::from_pem(root_pem, now()).and_then(|trust| current.with_trust(trust, now()));
    match moved {
        Ok(credentials) => Some(credentials),
        Err(error) => {
            // The certificate has to be renewed first; then it will verify.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "not following the swarm's new root yet"
            );
            None
        }
    }
}

/// Stores what is to be used from now on: on disk first. A disk that refuses it is asked again and again;
/// the managers need not sign another one for that.
async fn stored(store: &skep_pki::Store, mut credentials: Credentials) -> Credentials {
    let mut trouble = Repeated::default();
    loop {
        let store = store.clone();
        let saving = tokio::task::spawn_blocking(move || {
            let saved = store.save(&credentials);
            (credentials, saved)
        });
        let (returned, saved) = match saving.await {
            Ok(saved) => saved,
            Err(end) if end.is_panic() => std::panic::resume_unwind(end.into_panic()),
            // The daemon ends.
            Err(_) => return std::future::pending().await,
        };
        let Err(error) = saved else { return returned };
        let error = skep_types::report(&error);
        if let Some(failures) = trouble.failed(Instant::now(), &error) {
            tracing::error!(error, failures, "cannot store the node's certificate");
        }
        tokio::time::sleep(STORE_RETRY).await;
        credentials = returned;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use skep_pki::{NodeKey, NodeSubject, Signer, create_root};
    use skep_types::{Nanos, NodeRole};

    use super::*;

    fn credentials() -> Credentials {
        let root = create_root(now()).unwrap();
        let pem = root.certificate_pem.as_bytes();
        let signer = Signer::from_pem(pem, root.key_pem.as_bytes()).unwrap();
        let key = NodeKey::generate().unwrap();
        let subject = NodeSubject {
            node_id: "node".into(),
            role: NodeRole::Worker,
            cluster_id: "swarm".into(),
        };
        let request = key.request_pem().unwrap();
        let signed = signer.sign(request.as_bytes(), &subject, Nanos::default(), now()).unwrap();
        let trust = TrustRoot::from_pem(pem, now()).unwrap();
        Credentials::new(trust, &signed, key.to_pem().as_bytes(), now()).unwrap()
    }

    #[tokio::test]
    async fn a_certificate_is_stored_once_the_disk_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificates");
        std::fs::write(&path, "in the way").unwrap();
        let store = skep_pki::Store::new(path.clone());
        let credentials = credentials();
        let wanted = credentials.certificate_pem().to_vec();
        let mut storing = pin!(stored(&store, credentials));
        let refused = tokio::time::timeout(STORE_RETRY / 2, &mut storing).await;
        assert!(refused.is_err());
        std::fs::remove_file(&path).unwrap();
        let used = tokio::time::timeout(STORE_RETRY * 5, storing).await.unwrap();
        assert_eq!(used.certificate_pem(), wanted);
        let loaded = store.load(now(), None).unwrap().unwrap();
        assert_eq!(loaded.certificate_pem(), wanted);
    }
}
