//! Who may call what.

use skep_pki::Identity;
use skep_proto::removed_from_swarm;
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
///
/// Calls that workers may make are answered by the leader, who knows every node: there a caller must
/// also be one of them, whatever became of the list of those removed. Managers' calls are answered by
/// followers too, which may be behind.
pub(crate) fn caller<T>(
    shared: &Shared,
    request: &Request<T>,
    allowed: Allowed,
) -> Result<Identity, Status> {
    let identity = admitted(shared, request.extensions())?;
    if allowed == Allowed::Managers && !identity.is_manager() {
        return Err(Status::permission_denied("only managers may make this call"));
    }
    if allowed == Allowed::WorkersAndManagers && shared.read().node(&identity.node_id).is_none() {
        return Err(Status::unknown("node not found"));
    }
    Ok(identity)
}

/// The node that a connection belongs to: of this swarm, and not removed from it.
pub(crate) fn admitted(
    shared: &Shared,
    connection: &tonic::Extensions,
) -> Result<Identity, Status> {
    let identity = identity(connection)?
        .ok_or_else(|| Status::permission_denied("this call needs a node certificate"))?;
    let ours = shared.tls.current().identity().cluster_id.clone();
    if identity.cluster_id != ours {
        return Err(Status::permission_denied(format!(
            "the certificate is of another swarm: {}",
            identity.cluster_id
        )));
    }
    let store = shared.read();
    let removed = |cluster: &skep_types::Cluster| {
        cluster.blacklisted_certificates.contains_key(identity.node_id.as_str())
    };
    if store.cluster().is_some_and(|cluster| removed(cluster)) {
        return Err(Status::permission_denied(removed_from_swarm(&identity.node_id)));
    }
    Ok(identity)
}

/// The caller's certificate, if it showed one.
pub(crate) fn certificate<T>(request: &Request<T>) -> Result<Option<Identity>, Status> {
    identity(request.extensions())
}

fn identity(connection: &tonic::Extensions) -> Result<Option<Identity>, Status> {
    skep_pki::connection_identity(connection)
        .map_err(|e| Status::permission_denied(format!("unusable certificate: {e}")))
}
