use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use skep_control::{Action, Store};
use skep_pki::{DEFAULT_NODE_EXPIRY, Identity, SignError};
use skep_types::{
    Bytes64, Certificate, Cluster, IssuanceState, Nanos, Node, NodeAvailability, NodeId,
    NodeMembership, NodeRole, NodeSpec, Timestamp,
};
use thiserror::Error;

/// Why a certificate cannot be asked for.
#[derive(Clone, Debug, Error)]
pub(crate) enum RequestError {
    /// The text is Docker's; joining clients match it.
    #[error("A valid join token is necessary to join this cluster")]
    Token,
    /// A manager's token: its node could not become a member of raft.
    #[error("joining a swarm as a manager is not supported yet: join with a worker token")]
    Manager,
    #[error("there is no swarm yet")]
    NoCluster,
    #[error("node {0} not found")]
    NoNode(NodeId),
    /// Such a request is never stored: what a node has stays as it is.
    #[error("the certificate request cannot be signed: {}", skep_types::report(.0))]
    Unusable(#[source] Arc<SignError>),
}

/// A certificate request that can be signed.
#[derive(Clone, Debug)]
pub(crate) struct CheckedRequest(Vec<u8>);

impl CheckedRequest {
    pub(crate) fn new(csr: Vec<u8>) -> Result<Self, RequestError> {
        let checked = skep_pki::check_request(&csr);
        checked.map_err(|error| RequestError::Unusable(Arc::new(error)))?;
        Ok(Self(csr))
    }
}

/// A new node asks: its token says in which role. `id` is fresh.
pub(crate) fn ask_first(
    store: &Store,
    id: NodeId,
    csr: CheckedRequest,
    token: &str,
    availability: NodeAvailability,
) -> Result<Vec<Action>, RequestError> {
    let cluster = store.cluster().ok_or(RequestError::NoCluster)?;
    let role = role_of(cluster, token).ok_or(RequestError::Token)?;
    if role == NodeRole::Manager {
        return Err(RequestError::Manager);
    }
    let node = Node {
        certificate: Certificate {
            role,
            csr: Bytes64(csr.0),
            state: IssuanceState::Pending,
            cn: id.to_string(),
            ..Certificate::default()
        },
        id,
        spec: NodeSpec {
            role,
            availability,
            membership: NodeMembership::Accepted,
            ..NodeSpec::default()
        },
        role,
        vxlan_udp_port: cluster.data_path_port,
        ..Node::default()
    };
    Ok(vec![Action::Create(node.into())])
}

/// A node with a certificate asks for the next one, in the role that it is to have now. The one it has
/// stays known until the next is there.
pub(crate) fn ask_renewal(
    store: &Store,
    id: &NodeId,
    csr: CheckedRequest,
) -> Result<Vec<Action>, RequestError> {
    let node = store.node(id).ok_or_else(|| RequestError::NoNode(id.clone()))?;
    let mut node = Node::clone(node);
    node.certificate = Certificate {
        role: node.role,
        csr: Bytes64(csr.0),
        state: IssuanceState::Renew,
        cn: id.to_string(),
        certificate: std::mem::take(&mut node.certificate.certificate),
        ..Certificate::default()
    };
    Ok(vec![Action::Update(node.into())])
}

/// The role that a token gives; managers' first. Digests are compared, so that the time it takes says
/// nothing about the token.
fn role_of(cluster: &Cluster, token: &str) -> Option<NodeRole> {
    let given = digest(&SHA256, token.as_bytes());
    let tokens = &cluster.root_ca.join_tokens;
    [(&tokens.manager, NodeRole::Manager), (&tokens.worker, NodeRole::Worker)]
        .into_iter()
        .find(|(known, _)| {
            !known.is_empty() && digest(&SHA256, known.as_bytes()).as_ref() == given.as_ref()
        })
        .map(|(_, role)| role)
}

/// Whether nothing more will happen to a request without somebody asking.
pub(crate) fn is_final(state: IssuanceState) -> bool {
    matches!(state, IssuanceState::Issued | IssuanceState::Failed | IssuanceState::Rotate)
}

/// The moment from which no certificate of a node can be valid any more.
///
/// Not only the last one counts: an older one may be valid for longer, from when the swarm gave
/// certificates more time. A node whose certificate cannot be read may have one all the same.
pub(crate) fn last_expiry(store: &Store, node: &Node, now: Timestamp) -> Timestamp {
    let known = CertificateDer::from_pem_slice(&node.certificate.certificate.0)
        .ok()
        .and_then(|leaf| Identity::of(&leaf).ok())
        .map(|identity| identity.not_after);
    let given = store.cluster().map_or(Nanos(0), |c| c.spec.ca_config.node_cert_expiry);
    let longest = now + given.max(DEFAULT_NODE_EXPIRY);
    known.map_or(longest, |known| known.max(longest))
}
