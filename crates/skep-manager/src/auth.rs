//! Who may call what.

use skep_pki::{Identity, peer_identity};
use tonic::{Request, Status};

use crate::shared::Shared;

/// Whom a call is for; calls for anybody do not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    WorkersAndManagers,
    Managers,
}

/// The caller, if it may call: its certificate must be of this swarm, in an allowed role, and not of
/// a node that was removed.
pub(crate) fn caller<T>(
    shared: &Shared,
    request: &Request<T>,
    allowed: Allowed,
) -> Result<Identity, Status> {
    let identity = certificate(request)?
        .ok_or_else(|| Status::permission_denied("this call needs a node certificate"))?;
    let ours = shared.tls.current().identity().cluster_id.clone();
    if identity.cluster_id != ours {
        return Err(Status::permission_denied(format!(
            "the certificate is of another swarm: {}",
            identity.cluster_id
        )));
    }
    if allowed == Allowed::Managers && !identity.is_manager() {
        return Err(Status::permission_denied("only managers may make this call"));
    }
    let store = shared.read();
    let removed = |cluster: &skep_types::Cluster| {
        cluster.blacklisted_certificates.contains_key(identity.node_id.as_str())
    };
    if store.cluster().is_some_and(|cluster| removed(cluster)) {
        return Err(Status::permission_denied(format!(
            "node {} was removed from the swarm",
            identity.node_id
        )));
    }
    Ok(identity)
}

/// The caller's certificate, if it showed one.
pub(crate) fn certificate<T>(request: &Request<T>) -> Result<Option<Identity>, Status> {
    peer_identity(request)
        .map_err(|e| Status::permission_denied(format!("unusable certificate: {e}")))
}
