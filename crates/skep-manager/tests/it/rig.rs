//! One manager, and clients with and without certificates.

use std::path::Path;
use std::time::{Duration, Instant};

use skep_control::admission::ClusterSeed;
use skep_manager::{Control, Manager, ManagerConfig, ManagerStart, NewSwarm};
use skep_pki::{
    Credentials, JoinToken, MANAGER_SERVER_NAME, NodeKey, NodeSubject, Signer, TlsHandle,
    TrustRoot, create_root, join,
};
use skep_types::{
    Bytes64, Certificate, ClusterSpec, IssuanceState, JoinTokens, Nanos, Node, NodeAvailability,
    NodeRole, NodeSpec, RootCa, Timestamp,
};
use tokio::net::TcpListener;
use tonic::transport::Channel;

pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Rig {
    pub manager: Manager,
    pub addr: String,
    /// Removed at the end.
    _dir: tempfile::TempDir,
}

impl Rig {
    pub async fn new(spec: ClusterSpec) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (manager, addr) = found(dir.path(), spec).await;
        Self { manager, addr, _dir: dir }
    }

    pub fn control(&self) -> Control {
        self.manager.control()
    }

    /// A worker's credentials, got by its token.
    pub async fn worker(&self) -> TlsHandle {
        let token: JoinToken = self.control().join_tokens().await.unwrap().worker.parse().unwrap();
        let managers = [self.addr.clone()];
        TlsHandle::new(join(&managers, &token, NodeAvailability::Active).await.unwrap())
    }

    /// A connection with a node's certificate.
    pub async fn connect(&self, tls: &TlsHandle) -> Channel {
        let config = tls.client_config().unwrap();
        skep_pki::connect(&self.addr, MANAGER_SERVER_NAME, config).await.unwrap()
    }

    /// A connection without a certificate.
    pub async fn stranger(&self) -> Channel {
        let config = skep_pki::unverified_client().unwrap();
        skep_pki::connect(&self.addr, MANAGER_SERVER_NAME, config).await.unwrap()
    }
}

pub fn now() -> Timestamp {
    Timestamp::new(time::OffsetDateTime::now_utc())
}

/// Beats fast, so that tests need not wait.
pub fn fast_heartbeat() -> ClusterSpec {
    let mut spec = default_spec();
    spec.dispatcher.heartbeat_period = Nanos::from_millis(100);
    spec
}

pub fn default_spec() -> ClusterSpec {
    let mut spec = ClusterSpec::default();
    spec.annotations.name = "default".to_owned();
    spec
}

/// Credentials of a first manager, and the objects of its swarm.
fn identity(spec: ClusterSpec) -> (Credentials, NewSwarm) {
    let root = create_root(now()).unwrap();
    let root_pem = root.certificate_pem.into_bytes();
    let signer = Signer::from_pem(&root_pem, root.key_pem.as_bytes()).unwrap();
    let key = NodeKey::generate().unwrap();
    let csr = key.request_pem().unwrap();
    let subject = NodeSubject {
        node_id: "manager00000000000000000a".into(),
        role: NodeRole::Manager,
        cluster_id: "cluster00000000000000000a".into(),
    };
    let pem = signer.sign(csr.as_bytes(), &subject, Nanos::default(), now()).unwrap();
    let trust = TrustRoot::from_pem(&root_pem, now()).unwrap();
    let credentials = Credentials::new(trust, &pem, key.to_pem().as_bytes(), now()).unwrap();
    let seed = ClusterSeed {
        id: subject.cluster_id,
        spec,
        root_ca: RootCa {
            ca_key: Bytes64(root.key_pem.into_bytes()),
            join_tokens: JoinTokens {
                worker: JoinToken::generate(&root_pem).to_string(),
                manager: JoinToken::generate(&root_pem).to_string(),
            },
            ca_cert: Bytes64(root_pem),
            ..RootCa::default()
        },
        data_path_port: 4789,
        ..ClusterSeed::default()
    };
    let node = Node {
        id: subject.node_id.clone(),
        spec: NodeSpec { role: NodeRole::Manager, ..NodeSpec::default() },
        role: NodeRole::Manager,
        certificate: Certificate {
            role: NodeRole::Manager,
            csr: Bytes64(csr.into_bytes()),
            state: IssuanceState::Issued,
            certificate: Bytes64(pem),
            cn: subject.node_id.to_string(),
            ..Certificate::default()
        },
        ..Node::default()
    };
    (credentials, NewSwarm { seed, node })
}

async fn start(dir: &Path, credentials: Credentials, start: ManagerStart) -> (Manager, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let config = ManagerConfig {
        raft_dir: dir.join("raft"),
        listener,
        advertise_addr: addr.clone(),
        tls: TlsHandle::new(credentials),
        certificates: skep_pki::Store::new(dir.join("certificates")),
        unlock_key: None,
        start,
        host_routes: std::sync::Arc::new(Vec::new),
    };
    (Manager::start(config).await.unwrap(), addr)
}

/// A new swarm in `dir`.
pub async fn found(dir: &Path, spec: ClusterSpec) -> (Manager, String) {
    let (credentials, new_swarm) = identity(spec);
    let store = skep_pki::Store::new(dir.join("certificates"));
    store.save(&credentials).unwrap();
    start(dir, credentials, ManagerStart::NewSwarm(Box::new(new_swarm))).await
}

/// The swarm that is in `dir`.
pub async fn resume(dir: &Path) -> Manager {
    let store = skep_pki::Store::new(dir.join("certificates"));
    let credentials = store.load(now(), None).unwrap().unwrap();
    let (manager, _) = start(dir, credentials, ManagerStart::Resume).await;
    let mut leading = manager.leading();
    tokio::time::timeout(LIMIT, leading.wait_for(|leads| *leads)).await.unwrap().unwrap();
    manager
}

/// Polls `probe` until it answers.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
