//! A manager's CA service, as small as the tests need it.

use std::sync::{Arc, Mutex};

use skep_pki::{JoinToken, Signer, TlsHandle, TlsIncoming, peer_identity};
use skep_proto::v1::ca_server::{Ca, CaServer};
use skep_proto::v1::issuance_status::State;
use skep_proto::v1::node_ca_server::{NodeCa, NodeCaServer};
use skep_proto::v1::*;
use skep_types::Nanos;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::{Swarm, now, subject};

pub(crate) struct TestCa {
    pub address: String,
    pub token: JoinToken,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    root_pem: Vec<u8>,
    signer: Signer,
    token: String,
    /// The last request and its certificate.
    issued: Mutex<Certificate>,
    /// How many questions for the status are answered with "not yet".
    pending: Mutex<usize>,
    callers: Mutex<Vec<Option<String>>>,
    fail: Mutex<Option<String>>,
}

impl TestCa {
    pub(crate) async fn start() -> Self {
        Self::of(Swarm::new()).await
    }

    pub(crate) async fn of(swarm: Swarm) -> Self {
        let tls = TlsHandle::new(swarm.issue("manager", skep_types::NodeRole::Manager));
        let token = JoinToken::generate(swarm.trust.pem());
        let shared = Arc::new(Shared {
            root_pem: swarm.trust.pem().to_vec(),
            signer: swarm.signer,
            token: token.to_string(),
            issued: Mutex::default(),
            pending: Mutex::default(),
            callers: Mutex::default(),
            fail: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let incoming = TlsIncoming::new(listener, &tls).unwrap();
        let (ca, node_ca) = (Service(shared.clone()), Service(shared.clone()));
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(CaServer::new(ca))
                .add_service(NodeCaServer::new(node_ca))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { address, token, shared, server }
    }

    pub(crate) fn answer_pending(&self, times: usize) {
        *self.shared.pending.lock().unwrap() = times;
    }

    pub(crate) fn fail_with(&self, reason: &str) {
        *self.shared.fail.lock().unwrap() = Some(reason.to_owned());
    }

    /// Node ids in the certificates of those who asked for a certificate.
    pub(crate) fn callers(&self) -> Vec<Option<String>> {
        self.shared.callers.lock().unwrap().clone()
    }
}

impl Drop for TestCa {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl Ca for Service {
    async fn get_root_ca_certificate(
        &self,
        _: Request<GetRootCaCertificateRequest>,
    ) -> Result<Response<GetRootCaCertificateResponse>, Status> {
        Ok(Response::new(GetRootCaCertificateResponse { certificate: self.0.root_pem.clone() }))
    }

    async fn get_unlock_key(
        &self,
        _: Request<GetUnlockKeyRequest>,
    ) -> Result<Response<GetUnlockKeyResponse>, Status> {
        Err(Status::unimplemented("no unlock keys here"))
    }
}

#[tonic::async_trait]
impl NodeCa for Service {
    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let caller = peer_identity(&request).unwrap().map(|identity| identity.node_id.to_string());
        self.0.callers.lock().unwrap().push(caller.clone());
        let asked = request.into_inner();
        if caller.is_none() && asked.token != self.0.token {
            return Err(Status::invalid_argument(
                "A valid join token is necessary to join this cluster",
            ));
        }
        let node_id = caller.unwrap_or_else(|| "joined".to_owned());
        let node = subject(&node_id, skep_types::NodeRole::Worker);
        let certificate = self
            .0
            .signer
            .sign(&asked.csr, &node, Nanos::default(), now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        *self.0.issued.lock().unwrap() =
            Certificate { csr: asked.csr, certificate, ..Default::default() };
        Ok(Response::new(IssueNodeCertificateResponse { node_id, node_membership: 1 }))
    }

    async fn node_certificate_status(
        &self,
        _: Request<NodeCertificateStatusRequest>,
    ) -> Result<Response<NodeCertificateStatusResponse>, Status> {
        let mut certificate = self.0.issued.lock().unwrap().clone();
        let mut state = State::Issued;
        let mut err = String::new();
        let mut pending = self.0.pending.lock().unwrap();
        if let Some(reason) = self.0.fail.lock().unwrap().clone() {
            (state, err) = (State::Failed, reason);
        } else if *pending > 0 {
            *pending -= 1;
            // Issued, but for another request.
            certificate.csr.push(b'\n');
        }
        Ok(Response::new(NodeCertificateStatusResponse {
            status: Some(IssuanceStatus { state: state.into(), err }),
            certificate: Some(certificate),
        }))
    }
}
