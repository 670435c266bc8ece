use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1;
use skep_types::{NodeAvailability, NodeId, Version};
use tonic::{Request, Response, Status};

use super::status;
use crate::auth::{Allowed, caller, certificate};
use crate::ca::{CheckedRequest, RequestError, ask_first, ask_renewal, is_final};
use crate::shared::Shared;

/// A question for a certificate is held open this long; clients ask again.
const HOLD: Duration = Duration::from_secs(60);

/// Trust root and node certificates.
#[derive(Clone)]
pub(super) struct Ca(pub Arc<Shared>);

#[tonic::async_trait]
impl v1::ca_server::Ca for Ca {
    async fn get_root_ca_certificate(
        &self,
        _request: Request<v1::GetRootCaCertificateRequest>,
    ) -> Result<Response<v1::GetRootCaCertificateResponse>, Status> {
        let store = self.0.read();
        let cluster = store.cluster().ok_or_else(not_ready)?;
        let certificate = cluster.root_ca.ca_cert.0.clone();
        Ok(Response::new(v1::GetRootCaCertificateResponse { certificate }))
    }

    async fn get_unlock_key(
        &self,
        request: Request<v1::GetUnlockKeyRequest>,
    ) -> Result<Response<v1::GetUnlockKeyResponse>, Status> {
        caller(&self.0, &request, Allowed::Managers)?;
        let store = self.0.read();
        let cluster = store.cluster().ok_or_else(not_ready)?;
        let unlock_key = cluster.unlock_keys.first().map_or_else(Vec::new, |key| key.key.0.clone());
        let version: &Version = &cluster.meta.version;
        Ok(Response::new(v1::GetUnlockKeyResponse { unlock_key, version: Some(version.into()) }))
    }
}

#[tonic::async_trait]
impl v1::node_ca_server::NodeCa for Ca {
    async fn issue_node_certificate(
        &self,
        request: Request<v1::IssueNodeCertificateRequest>,
    ) -> Result<Response<v1::IssueNodeCertificateResponse>, Status> {
        // A renewal is checked as every call with a certificate; a first request has only a token.
        let known = match certificate(&request)? {
            Some(_) => Some(caller(&self.0, &request, Allowed::WorkersAndManagers)?.node_id),
            None => None,
        };
        let request = request.into_inner();
        if request.csr.is_empty() {
            return Err(Status::invalid_argument("certificate request is empty"));
        }
        let availability = v1::node_spec::Availability::try_from(request.availability)
            .map(NodeAvailability::from)
            .map_err(|_| Status::invalid_argument("unknown availability"))?;
        let csr = CheckedRequest::new(request.csr).map_err(refused)?;
        let token = request.token;
        let written = self.0.writer.write(move |store, _| match known {
            Some(id) => ask_renewal(store, &id, csr).map(|actions| (actions, id)),
            None => {
                let id: NodeId = crate::chance::id();
                ask_first(store, id.clone(), csr, &token, availability).map(|actions| (actions, id))
            }
        });
        let (_, id) = written.await.map_err(status::write)?.map_err(refused)?;
        Ok(Response::new(v1::IssueNodeCertificateResponse {
            node_id: id.to_string(),
            node_membership: v1::node_spec::Membership::Accepted.into(),
        }))
    }

    async fn node_certificate_status(
        &self,
        request: Request<v1::NodeCertificateStatusRequest>,
    ) -> Result<Response<v1::NodeCertificateStatusResponse>, Status> {
        let id = NodeId::from(request.into_inner().node_id);
        let answer = self.wait_final(&id);
        let node = tokio::select! {
            answer = tokio::time::timeout(HOLD, answer) => match answer {
                Ok(answer) => answer?,
                Err(_) => self.find(&id)?,
            },
            () = self.0.stop.cancelled() => return Err(Status::aborted("this manager is stopping")),
        };
        let certificate = v1::Certificate::from(&node.certificate);
        Ok(Response::new(v1::NodeCertificateStatusResponse {
            status: certificate.status.clone(),
            certificate: Some(certificate),
        }))
    }
}

impl Ca {
    fn find(&self, id: &NodeId) -> Result<Arc<skep_types::Node>, Status> {
        let store = self.0.read();
        store.node(id).cloned().ok_or_else(|| Status::not_found(format!("node {id} not found")))
    }

    async fn wait_final(&self, id: &NodeId) -> Result<Arc<skep_types::Node>, Status> {
        let mut index = self.0.cell.index();
        loop {
            index.borrow_and_update();
            let node = self.find(id)?;
            if is_final(node.certificate.state) {
                return Ok(node);
            }
            index.changed().await.map_err(|_| Status::aborted("this manager has stopped"))?;
        }
    }
}

fn not_ready() -> Status {
    Status::aborted("the swarm is not ready yet")
}

fn refused(error: RequestError) -> Status {
    match error {
        RequestError::Token | RequestError::Unusable(_) => {
            Status::invalid_argument(error.to_string())
        }
        RequestError::Manager => Status::unimplemented(error.to_string()),
        RequestError::NoCluster => not_ready(),
        RequestError::NoNode(_) => Status::not_found(error.to_string()),
    }
}
