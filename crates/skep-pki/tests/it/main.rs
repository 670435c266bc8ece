//! skep-pki as other crates use it, with `openssl` as the judge of certificates and a small CA server
//! at the other end of real connections.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod ca;
mod certificates;
mod joining;
mod store;
mod tls;

use skep_pki::{Credentials, NodeKey, NodeSubject, Signer, TrustRoot, create_root};
use skep_types::{Nanos, NodeRole, Timestamp};

fn now() -> Timestamp {
    Timestamp::new(time::OffsetDateTime::now_utc())
}

/// A root with its signer.
struct Swarm {
    trust: TrustRoot,
    signer: Signer,
    key_pem: String,
    /// When it was made, and its certificates are.
    made: Timestamp,
}

impl Swarm {
    fn new() -> Self {
        Self::made(now())
    }

    fn made(made: Timestamp) -> Self {
        let root = create_root(made).unwrap();
        let pem = root.certificate_pem.as_bytes();
        Self {
            made,
            trust: TrustRoot::from_pem(pem, made).unwrap(),
            signer: Signer::from_pem(pem, root.key_pem.as_bytes()).unwrap(),
            key_pem: root.key_pem,
        }
    }

    fn issue(&self, id: &str, role: NodeRole) -> Credentials {
        let key = NodeKey::generate().unwrap();
        let request = key.request_pem().unwrap();
        let pem = self
            .signer
            .sign(request.as_bytes(), &subject(id, role), Nanos::default(), self.made)
            .unwrap();
        Credentials::new(self.trust.clone(), &pem, key.to_pem().as_bytes(), self.made).unwrap()
    }
}

fn subject(id: &str, role: NodeRole) -> NodeSubject {
    NodeSubject { node_id: id.into(), role, cluster_id: "swarmid".into() }
}
