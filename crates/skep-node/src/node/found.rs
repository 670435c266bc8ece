use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use skep_control::admission::ClusterSeed;
use skep_manager::{Manager, ManagerConfig, ManagerStart, ManagerStartError, NewSwarm};
use skep_pki::{
    Credentials, JoinToken, NodeKey, NodeSubject, Signer, TlsHandle, TrustRoot, create_root,
};
use skep_types::{
    Bytes64, Certificate, ClusterId, ClusterSpec, IssuanceState, JoinTokens, Node, NodeId,
    NodeMembership, NodeRole, NodeSpec, RootCa, id_from_random,
};
use tokio::net::TcpListener;

use super::SwarmNode;
use super::clock::now;
use super::member::{Member, bind, internal};
use super::slot::Slot;
use crate::pool::{check_data_path_port, check_pool_routes, check_pools};
use crate::state::{Folder, Phase, State};
use crate::{InitRequest, NodeError, NotManager};

/// Docker's time for a node to become ready. `init` has succeeded before; this is only so that
/// the first `node ls` shows the node ready.
const READY_LIMIT: Duration = Duration::from_secs(5);
/// Time for a manager made alone to lead.
const LEAD_LIMIT: Duration = Duration::from_secs(20);

impl SwarmNode {
    /// Makes a swarm with this host as its only manager; returns once it answers.
    ///
    /// # Errors
    /// Nothing of the swarm is left, except with `force_new_cluster`, which keeps what was there.
    pub async fn init(&self, request: InitRequest) -> Result<NodeId, NodeError> {
        let _change = self.change.lock().await;
        match self.slot() {
            Slot::Inactive | Slot::Pending => {}
            slot if request.force_new_cluster => {
                return self.force_new_cluster(slot, request).await;
            }
            _ => return Err(NodeError::AlreadyInSwarm),
        }
        let state = self.state_for(&request)?;
        check_data_path_port(request.data_path_port)?;
        let (pools, subnet_size) = check_pools(&request.default_addr_pool, request.subnet_size)?;
        check_pool_routes(&pools, subnet_size, &(self.config.host_routes)())?;
        let listener = bind(state.listen_addr).await?;
        self.put(Slot::Pending);
        match self.found(request, state, pools, subnet_size, listener).await {
            Ok(member) => {
                let id = member.node_id().clone();
                if !member.in_session(READY_LIMIT).await {
                    tracing::warn!("this node's agent has no session with its manager yet");
                }
                self.activate(member);
                Ok(id)
            }
            Err(error) => {
                // The cause matters more to the user than what cannot be cleaned up.
                if let Err(error) = self.erase().await {
                    let error = skep_types::report(&error);
                    tracing::error!(
                        error,
                        "cannot clean up after a failed init; the next start tries again"
                    );
                }
                self.put(Slot::Inactive);
                Err(error)
            }
        }
    }

    fn state_for(&self, request: &InitRequest) -> Result<State, NodeError> {
        let resolver = self.resolver()?;
        let listen_addr = resolver.listen(&request.listen_addr)?;
        let default = &self.config.default_advertise_addr;
        let advertise_addr = resolver.advertise(&request.advertise_addr, default, listen_addr)?;
        let data_path_addr = resolver.data_path(&request.data_path_addr)?;
        resolver.check_ours(listen_addr, advertise_addr, data_path_addr)?;
        Ok(State {
            phase: Phase::Initialising,
            listen_addr,
            advertise_addr,
            data_path_addr,
            remote_addrs: Vec::new(),
        })
    }

    async fn found(
        &self,
        request: InitRequest,
        state: State,
        pools: Vec<String>,
        subnet_size: u32,
        listener: TcpListener,
    ) -> Result<Member, NodeError> {
        let started = state.clone();
        self.on_disk(move |folder| folder.store(&started)).await?;
        let mut spec = request.spec;
        spec.encryption_config.auto_lock_managers |= request.autolock;
        let port = if request.data_path_port == 0 {
            u32::from(skep_types::defaults::DATA_PATH_PORT)
        } else {
            request.data_path_port
        };
        let identity = first_identity(&spec)?;
        let node = Node {
            id: identity.node_id.clone(),
            spec: NodeSpec {
                role: NodeRole::Manager,
                availability: request.availability,
                membership: NodeMembership::Accepted,
                ..NodeSpec::default()
            },
            role: NodeRole::Manager,
            certificate: identity.certificate,
            vxlan_udp_port: port,
            ..Node::default()
        };
        let seed = ClusterSeed {
            id: identity.cluster_id,
            spec,
            root_ca: identity.root_ca,
            default_addr_pool: pools,
            subnet_size,
            data_path_port: port,
        };
        let credentials = identity.credentials;
        let certificates = skep_pki::Store::new(self.folder.certificates());
        let store = certificates.clone();
        let credentials =
            tokio::task::spawn_blocking(move || store.save(&credentials).map(|()| credentials))
                .await
                .map_err(internal("store the node's certificate"))?
                .map_err(internal("store the node's certificate"))?;
        let tls = TlsHandle::new(credentials);
        let config = ManagerConfig {
            raft_dir: self.folder.raft(),
            listener,
            advertise_addr: state.advertise_addr.to_string(),
            tls: tls.clone(),
            certificates: certificates.clone(),
            unlock_key: None,
            start: ManagerStart::NewSwarm(Box::new(NewSwarm { seed, node })),
            host_routes: Arc::clone(&self.config.host_routes),
        };
        let manager = Manager::start(config).await.map_err(|error| match error {
            ManagerStartError::Refused(refused) => NodeError::Invalid(refused.message),
            other => internal("make the swarm")(other),
        })?;
        let state = State { phase: Phase::Member, ..state };
        let member = Member::start(self, state, tls, certificates, Some(manager)).await?;
        let done = member.state.clone();
        if let Err(error) = self.on_disk(move |folder| folder.store(&done)).await {
            member.stop().await;
            return Err(error);
        }
        Ok(member)
    }

    /// Keeps the state of a swarm that lost its managers, with this one as the only one.
    async fn force_new_cluster(
        &self,
        slot: Slot,
        request: InitRequest,
    ) -> Result<NodeId, NodeError> {
        let old = match &slot {
            Slot::Active(member) if member.is_manager() => member.state.clone(),
            Slot::Active(_) => return Err(NotManager::Worker.into()),
            Slot::Locked(_) => return Err(NotManager::Locked.into()),
            Slot::Failed { state: Some(state), .. } => state.clone(),
            Slot::Failed { state: None, error } => {
                return Err(NotManager::Failed(error.clone()).into());
            }
            Slot::Inactive | Slot::Pending => return Err(NotManager::Inactive.into()),
        };
        let resolver = self.resolver()?;
        let listen_addr = match request.listen_addr.as_str() {
            "" => old.listen_addr,
            text => resolver.listen(text)?,
        };
        let advertise_addr = match request.advertise_addr.as_str() {
            "" => old.advertise_addr,
            text => resolver.advertise(text, "", listen_addr)?,
        };
        let data_path_addr = match request.data_path_addr.as_str() {
            "" => old.data_path_addr,
            text => resolver.data_path(text)?,
        };
        let mut unlock_key = None;
        if let Slot::Active(member) = &slot {
            unlock_key = member.unlock_key().await;
            member.stop().await;
        }
        drop(slot);
        let old_state = old.clone();
        let state = State { listen_addr, advertise_addr, data_path_addr, ..old };
        let start = ManagerStart::ForceNewCluster;
        let started = Member::resume_as(self, state.clone(), unlock_key.clone(), start).await;
        match started {
            Ok(member) => {
                let stored = state.clone();
                if let Err(error) = self.on_disk(move |folder: &Folder| folder.store(&stored)).await
                {
                    // The old one is stopped, and this one must not go on at an address that the next start
                    // would not know.
                    member.stop().await;
                    self.failed(Some(old_state), skep_types::report(&error), unlock_key);
                    return Err(error);
                }
                let id = member.node_id().clone();
                let leads = member.leads(LEAD_LIMIT).await;
                self.activate(member);
                if leads { Ok(id) } else { Err(NotManager::NoLeader.into()) }
            }
            Err(error) => {
                self.failed(Some(old_state), skep_types::report(&error), unlock_key);
                Err(error)
            }
        }
    }
}

/// A new swarm's root and its first node's certificate.
struct FirstIdentity {
    cluster_id: ClusterId,
    node_id: NodeId,
    root_ca: RootCa,
    certificate: Certificate,
    credentials: Credentials,
}

fn first_identity(spec: &ClusterSpec) -> Result<FirstIdentity, NodeError> {
    const MAKE: &str = "make the swarm's certificates";
    let now = now();
    let cluster_id = ClusterId::from(id_from_random(rand::random()));
    let node_id = NodeId::from(id_from_random(rand::random()));
    let (root_pem, root_key) = if spec.ca_config.signing_ca_cert.is_empty() {
        let root = create_root(now).map_err(internal(MAKE))?;
        (root.certificate_pem.into_bytes(), root.key_pem)
    } else {
        (spec.ca_config.signing_ca_cert.clone().into_bytes(), spec.ca_config.signing_ca_key.clone())
    };
    let trust = TrustRoot::from_pem(&root_pem, now).map_err(internal(MAKE))?;
    let signer = Signer::from_pem(&root_pem, root_key.as_bytes()).map_err(internal(MAKE))?;
    let key = NodeKey::generate().map_err(internal(MAKE))?;
    let csr = key.request_pem().map_err(internal(MAKE))?;
    let subject = NodeSubject {
        node_id: node_id.clone(),
        role: NodeRole::Manager,
        cluster_id: cluster_id.clone(),
    };
    let expiry = spec.ca_config.node_cert_expiry;
    let pem = signer.sign(csr.as_bytes(), &subject, expiry, now).map_err(internal(MAKE))?;
    let credentials =
        Credentials::new(trust, &pem, key.to_pem().as_bytes(), now).map_err(internal(MAKE))?;
    let root_ca = RootCa {
        ca_key: Bytes64(root_key.into_bytes()),
        ca_cert_hash: format!("sha256:{}", hex::encode(Sha256::digest(&root_pem))),
        join_tokens: JoinTokens {
            worker: JoinToken::generate(&root_pem).to_string(),
            manager: JoinToken::generate(&root_pem).to_string(),
        },
        ca_cert: Bytes64(root_pem),
        ..RootCa::default()
    };
    let certificate = Certificate {
        role: NodeRole::Manager,
        csr: Bytes64(csr.into_bytes()),
        state: IssuanceState::Issued,
        certificate: Bytes64(pem),
        cn: node_id.to_string(),
        ..Certificate::default()
    };
    Ok(FirstIdentity { cluster_id, node_id, root_ca, certificate, credentials })
}
