use skep_pki::{JoinError, JoinToken, NodeKey, join, root_digest};
use skep_proto::v1;
use skep_types::{Annotations, IssuanceState, NetworkSpec, NodeAvailability, NodeRole};
use tonic::Code;
use v1::ca_client::CaClient;
use v1::control_client::ControlClient;
use v1::dispatcher_client::DispatcherClient;
use v1::health_client::HealthClient;
use v1::log_broker_client::LogBrokerClient;
use v1::node_ca_client::NodeCaClient;
use v1::resource_allocator_client::ResourceAllocatorClient;

use crate::rig::{Rig, default_spec};

fn attachable(name: &str) -> NetworkSpec {
    NetworkSpec {
        annotations: Annotations { name: name.to_owned(), ..Annotations::default() },
        attachable: true,
        ..NetworkSpec::default()
    }
}

#[tokio::test]
async fn a_token_brings_a_certificate() {
    let rig = Rig::new(default_spec()).await;
    let mut stranger = CaClient::new(rig.stranger().await);
    let root = stranger.get_root_ca_certificate(v1::GetRootCaCertificateRequest {}).await.unwrap();
    let token: JoinToken = rig.control().join_tokens().await.unwrap().worker.parse().unwrap();
    assert_eq!(root_digest(&root.into_inner().certificate), token.digest());

    let worker = rig.worker().await;
    let identity = worker.current().identity().clone();
    assert_eq!(identity.role, NodeRole::Worker);
    let node = rig.control().get_node(identity.node_id.as_str()).await.unwrap();
    assert_eq!(node.certificate.state, IssuanceState::Issued);
    assert_eq!((node.role, node.vxlan_udp_port), (NodeRole::Worker, 4789));

    // With the certificate the next one is for the same node.
    let managers = [rig.addr.clone()];
    let renewed = skep_pki::renew(&managers, &worker).await.unwrap();
    assert_eq!(renewed.identity().node_id, identity.node_id);
    rig.manager.stop().await;
}

#[tokio::test]
async fn wrong_tokens_and_requests_are_refused() {
    let rig = Rig::new(default_spec()).await;
    let managers = [rig.addr.clone()];
    let tokens = rig.control().join_tokens().await.unwrap();
    let root = &tokens.worker[..tokens.worker.len() - 25];
    let wrong: JoinToken = format!("{root}{}", "0".repeat(25)).parse().unwrap();
    match join(&managers, &wrong, NodeAvailability::Active).await.unwrap_err() {
        JoinError::Refused { code, message, .. } => {
            assert_eq!(code, Code::InvalidArgument);
            assert_eq!(message, "A valid join token is necessary to join this cluster");
        }
        other => panic!("{other:?}"),
    }
    let mut stranger = NodeCaClient::new(rig.stranger().await);
    let ask = |csr: &[u8]| v1::IssueNodeCertificateRequest {
        csr: csr.to_vec(),
        token: tokens.worker.clone(),
        ..Default::default()
    };
    let empty = stranger.issue_node_certificate(ask(b"")).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    // Nonsense makes no node, whoever brings it.
    let nodes = rig.manager.read().nodes().count();
    let good = NodeKey::generate().unwrap().request_pem().unwrap();
    let cut = good.replacen("\nM", "\nL", 1);
    let long = format!("{}{good}", "#".repeat(16 << 10));
    for (csr, why) in [
        (&b"no request"[..], "not PEM"),
        (cut.as_bytes(), "malformed"),
        (long.as_bytes(), "longer than"),
    ] {
        let refused = stranger.issue_node_certificate(ask(csr)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(why), "{refused}");
    }
    assert_eq!(rig.manager.read().nodes().count(), nodes);
    let unknown = v1::NodeCertificateStatusRequest { node_id: "nobody".to_owned() };
    assert_eq!(stranger.node_certificate_status(unknown).await.unwrap_err().code(), Code::NotFound);
    rig.manager.stop().await;
}

/// A removed node cannot do anything, whatever it asked for before.
#[tokio::test]
async fn a_removed_node_is_out_whatever_it_sent_before() {
    let rig = Rig::new(default_spec()).await;
    rig.control().create_network(attachable("anet")).await.unwrap();
    let attach = || v1::AttachNetworkRequest {
        config: Some(v1::NetworkAttachmentConfig {
            target: "anet".to_owned(),
            ..Default::default()
        }),
        container_id: "c".to_owned(),
    };
    let renewal = |csr: Vec<u8>| v1::IssueNodeCertificateRequest { csr, ..Default::default() };
    let good = NodeKey::generate().unwrap().request_pem().unwrap().into_bytes();
    for csr in [b"garbage".to_vec(), good] {
        let worker = rig.worker().await;
        let id = worker.current().identity().node_id.clone();
        let mut ca = NodeCaClient::new(rig.connect(&worker).await);
        let mut networks = ResourceAllocatorClient::new(rig.connect(&worker).await);
        let mut logs = LogBrokerClient::new(rig.connect(&worker).await);
        networks.attach_network(attach()).await.unwrap();

        let valid = csr != b"garbage";
        assert_eq!(ca.issue_node_certificate(renewal(csr)).await.is_ok(), valid);
        let node = rig.control().get_node(id.as_str()).await.unwrap();
        assert!(!node.certificate.certificate.0.is_empty(), "the certificate stays known");

        rig.control().remove_node(id.as_str(), true).await.unwrap();
        let cluster = rig.manager.read().cluster().unwrap().clone();
        let until = cluster.blacklisted_certificates[id.as_str()];
        assert!(until >= worker.current().identity().not_after);
        let code = networks.attach_network(attach()).await.unwrap_err().code();
        assert_eq!(code, Code::PermissionDenied);
        let code =
            logs.listen_subscriptions(v1::ListenSubscriptionsRequest {}).await.unwrap_err().code();
        assert_eq!(code, Code::PermissionDenied);
        let again = NodeKey::generate().unwrap().request_pem().unwrap().into_bytes();
        let code = ca.issue_node_certificate(renewal(again)).await.unwrap_err().code();
        assert_eq!(code, Code::PermissionDenied);
    }
    rig.manager.stop().await;
}

#[tokio::test]
async fn each_call_checks_its_caller() {
    let rig = Rig::new(default_spec()).await;
    let worker = rig.worker().await;
    let list = v1::ListServicesRequest::default;
    let session = v1::SessionRequest::default;

    let mut stranger = ControlClient::new(rig.stranger().await);
    assert_eq!(stranger.list_services(list()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut stranger = DispatcherClient::new(rig.stranger().await);
    assert_eq!(stranger.session(session()).await.unwrap_err().code(), Code::PermissionDenied);

    let mut as_worker = ControlClient::new(rig.connect(&worker).await);
    assert_eq!(as_worker.list_services(list()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut as_worker = HealthClient::new(rig.connect(&worker).await);
    let health = v1::HealthCheckRequest::default();
    assert_eq!(as_worker.check(health).await.unwrap_err().code(), Code::PermissionDenied);
    let mut as_worker = DispatcherClient::new(rig.connect(&worker).await);
    as_worker.session(session()).await.unwrap();

    // A swarm's certificate is nothing in another swarm.
    let other = Rig::new(default_spec()).await;
    let config = worker.client_config().unwrap();
    assert!(skep_pki::connect(&other.addr, skep_pki::MANAGER_SERVER_NAME, config).await.is_err());

    // A removed node's certificate is worth nothing.
    let id = worker.current().identity().node_id.clone();
    rig.control().remove_node(id.as_str(), true).await.unwrap();
    let refused = as_worker.session(session()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    rig.manager.stop().await;
    other.manager.stop().await;
}
