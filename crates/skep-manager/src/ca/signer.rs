use std::convert::Infallible;
use std::time::Duration;

use skep_control::{Action, ObjectKey, Store};
use skep_pki::{NodeSubject, SignError, Signer};
use skep_types::{Bytes64, Cluster, IssuanceState, Node, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::store::{StoreCell, Watched, WriteError, Writer};

/// Pause before a signing that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Signs every request that waits, until `stop` or until writing fails.
pub(crate) async fn run(
    cell: &StoreCell,
    writer: &Writer,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    let (_, mut watcher) = cell.watch();
    loop {
        let failed = sign_waiting(cell, writer).await?;
        let retry = async {
            if failed { tokio::time::sleep(RETRY).await } else { std::future::pending().await }
        };
        let woken = async {
            while let Some(watched) = watcher.next().await {
                if concerns(&watched) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = woken => {}
            () = retry => {}
        }
    }
}

fn concerns(watched: &Watched) -> bool {
    match watched {
        Watched::Reread(_) => true,
        Watched::Changes(changes) => changes
            .list
            .iter()
            .any(|change| matches!(change.key(), ObjectKey::Node(_) | ObjectKey::Cluster(_))),
    }
}

fn waits(node: &Node) -> bool {
    matches!(node.certificate.state, IssuanceState::Pending | IssuanceState::Renew)
}

/// True if a request is left over that could not be signed.
async fn sign_waiting(cell: &StoreCell, writer: &Writer) -> Result<bool, WriteError> {
    if !cell.read().nodes().any(|node| waits(node)) {
        return Ok(false);
    }
    let written = writer.write(|store, now| Ok::<_, Infallible>(sign_all(store, now)));
    let (_, failed) = written.await?.unwrap_or_else(|never| match never {});
    Ok(failed)
}

fn sign_all(store: &Store, now: Timestamp) -> (Vec<Action>, bool) {
    let Some(cluster) = store.cluster() else { return (Vec::new(), true) };
    let signer = match signer(cluster) {
        Ok(signer) => signer,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot sign node certificates"
            );
            return (Vec::new(), true);
        }
    };
    let mut failed = false;
    let mut actions = Vec::new();
    for node in store.nodes().filter(|node| waits(node)) {
        let subject = NodeSubject {
            node_id: node.id.clone(),
            role: node.certificate.role,
            cluster_id: cluster.id.clone(),
        };
        let expiry = cluster.spec.ca_config.node_cert_expiry;
        let mut node = Node::clone(node);
        match signer.sign(&node.certificate.csr.0, &subject, expiry, now) {
            Ok(pem) => {
                node.certificate.certificate = Bytes64(pem);
                node.certificate.state = IssuanceState::Issued;
                node.certificate.err.clear();
            }
            // The request itself is at fault; only another request helps.
            Err(
                error @ (SignError::RequestLong
                | SignError::RequestPem(_)
                | SignError::RequestParse
                | SignError::RequestKey(_)),
            ) => {
                tracing::warn!(node = %node.id, error = &error as &dyn std::error::Error, "refused a certificate request");
                node.certificate.state = IssuanceState::Failed;
                node.certificate.err = error.to_string();
            }
            Err(error) => {
                tracing::error!(node = %node.id, error = &error as &dyn std::error::Error, "cannot sign a certificate");
                failed = true;
                continue;
            }
        }
        actions.push(Action::Update(node.into()));
    }
    (actions, failed)
}

fn signer(cluster: &Cluster) -> Result<Signer, SignError> {
    let root = &cluster.root_ca;
    match &root.root_rotation {
        None => Signer::from_pem(&root.ca_cert.0, &root.ca_key.0),
        Some(rotation) => Ok(Signer::from_pem(&rotation.ca_cert.0, &rotation.ca_key.0)?
            .with_intermediate(&rotation.cross_signed_ca_cert.0)),
    }
}
