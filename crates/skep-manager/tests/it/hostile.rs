//! Who has no business on the remote API, and what is no remote API at all: nothing of it is taken in,
//! and nobody else notices.

use std::time::Duration;

use skep_pki::{Credentials, NodeKey, NodeSubject, Signer, TlsHandle, TrustRoot, create_root};
use skep_proto::v1;
use skep_types::{Nanos, NodeRole, NodeState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codegen::http;
use tonic::transport::Channel;
use v1::ca_client::CaClient;
use v1::control_client::ControlClient;
use v1::dispatcher_client::DispatcherClient;
use v1::node_ca_client::NodeCaClient;

use crate::rig::{LIMIT, Rig, default_spec, now};

fn credentials(root: &[u8], key: &[u8], subject: &NodeSubject) -> TlsHandle {
    let signer = Signer::from_pem(root, key).unwrap();
    let node_key = NodeKey::generate().unwrap();
    let csr = node_key.request_pem().unwrap();
    let pem = signer.sign(csr.as_bytes(), subject, Nanos::default(), now()).unwrap();
    let trust = TrustRoot::from_pem(root, now()).unwrap();
    TlsHandle::new(Credentials::new(trust, &pem, node_key.to_pem().as_bytes(), now()).unwrap())
}

fn session() -> v1::SessionRequest {
    v1::SessionRequest {
        description: Some(v1::NodeDescription::default()),
        ..v1::SessionRequest::default()
    }
}

/// The manager serves somebody who may ask.
async fn serves(rig: &Rig) {
    let mut worker = DispatcherClient::new(rig.connect(&rig.worker().await).await);
    let mut stream = worker.session(session()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
}

#[tokio::test]
async fn certificates_of_others_open_nothing() {
    let rig = Rig::new(default_spec()).await;
    let nodes = rig.manager.read().nodes().count();
    // The right root, but another swarm's organisation: as managers too.
    let cluster = rig.manager.read().cluster().unwrap().clone();
    let (root, key) = (&cluster.root_ca.ca_cert.0, &cluster.root_ca.ca_key.0);
    let mut subject = NodeSubject {
        node_id: "intruder0000000000000000a".into(),
        role: NodeRole::Manager,
        cluster_id: "othercluster000000000000a".into(),
    };
    let other_swarm = credentials(root, key, &subject);
    let mut client = DispatcherClient::new(rig.connect(&other_swarm).await);
    assert_eq!(client.session(session()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut client = ControlClient::new(rig.connect(&other_swarm).await);
    let list = v1::ListNodesRequest::default();
    assert_eq!(client.list_nodes(list).await.unwrap_err().code(), Code::PermissionDenied);
    let mut client = CaClient::new(rig.connect(&other_swarm).await);
    let key_call = client.get_unlock_key(v1::GetUnlockKeyRequest {}).await;
    assert_eq!(key_call.unwrap_err().code(), Code::PermissionDenied);

    // The right organisation, but the manager has never heard of the node.
    subject.cluster_id = cluster.id.clone();
    let unknown = credentials(root, key, &subject);
    let mut client = DispatcherClient::new(rig.connect(&unknown).await);
    assert_eq!(client.session(session()).await.unwrap_err().code(), Code::Unknown);

    // Another root: neither side gets through the handshake.
    let root = create_root(now()).unwrap();
    let foreign = credentials(root.certificate_pem.as_bytes(), root.key_pem.as_bytes(), &subject);
    let config = foreign.client_config().unwrap();
    skep_pki::connect(&rig.addr, skep_pki::MANAGER_SERVER_NAME, config).await.unwrap_err();

    assert_eq!(rig.manager.read().nodes().count(), nodes);
    serves(&rig).await;
    rig.manager.stop().await;
}

#[tokio::test]
async fn of_two_nodes_with_one_identity_only_the_later_counts() {
    let rig = Rig::new(default_spec()).await;
    let identity = rig.worker().await;
    let id = identity.current().identity().node_id.clone();
    let nodes = rig.manager.read().nodes().count();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut client = DispatcherClient::new(rig.connect(&identity).await);
        let mut stream = client.session(session()).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        sessions.push((client, stream, first.session_id));
    }
    let beat = |session_id: &str| v1::HeartbeatRequest { session_id: session_id.to_owned() };
    let (client, stream, session_id) = &mut sessions[0];
    while stream.message().await.is_ok_and(|message| message.is_some()) {}
    assert_eq!(client.heartbeat(beat(session_id)).await.unwrap_err().code(), Code::InvalidArgument);
    let (client, _, session_id) = &mut sessions[1];
    client.heartbeat(beat(session_id)).await.unwrap();
    assert_eq!(rig.manager.read().nodes().count(), nodes);
    assert_eq!(rig.control().get_node(id.as_str()).await.unwrap().status.state, NodeState::Ready);
    rig.manager.stop().await;
}

#[tokio::test]
async fn garbage_and_oversize_messages_disturb_nobody() {
    let rig = Rig::new(default_spec()).await;
    let before = rig.manager.read().nodes().count();
    let mut silent = Vec::new();
    let noise: Vec<u8> =
        (0..70_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let hello_too_long = [&[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff][..], &noise].concat();
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &noise,
        &hello_too_long,
    ] {
        let mut stream = TcpStream::connect(&rig.addr).await.unwrap();
        // The other end may hang up before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        if bytes.is_empty() {
            silent.push(stream);
        } else {
            let read = stream.read_to_end(&mut answer);
            let _ = tokio::time::timeout(LIMIT, read).await.expect("the connection is closed");
            assert!(answer.len() < 1024, "no more than an alert: {}", answer.len());
        }
    }

    // Frames that make no sense, inside of TLS.
    let tls = skep_pki::unverified_client().unwrap();
    let name = rustls_pki_types::ServerName::try_from(skep_pki::CA_SERVER_NAME).unwrap();
    let stream = TcpStream::connect(&rig.addr).await.unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await.unwrap();
    let _ = stream.write_all(&noise).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();

    // More than a request may be; and a request of nothing.
    let mut stranger = NodeCaClient::new(rig.stranger().await);
    let request = |csr: Vec<u8>| v1::IssueNodeCertificateRequest { csr, ..Default::default() };
    let refused = stranger.issue_node_certificate(request(vec![b'x'; 5 << 20])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let refused = stranger.issue_node_certificate(request(Vec::new())).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    assert_eq!(rig.manager.read().nodes().count(), before);
    tokio::time::timeout(Duration::from_secs(20), serves(&rig)).await.unwrap();
    drop(silent);
    rig.manager.stop().await;
}

/// Whether a call exists is nobody's business without a certificate; and no worker fills the store.
#[tokio::test]
async fn calls_are_answered_to_nodes_only_and_nodes_say_little() {
    let rig = Rig::new(default_spec()).await;
    let worker = rig.worker().await;
    let ask = async |channel: Channel, path: &str| {
        let request = http::Request::post(format!("https://swarm{path}"))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::empty())
            .unwrap();
        let answer = tower::ServiceExt::oneshot(channel, request).await.unwrap();
        Code::from_bytes(answer.headers()["grpc-status"].as_bytes())
    };
    for path in [
        "/docker.swarmkit.v1.Watch/Watch",
        "/docker.swarmkit.v1.Dispatcher/Unheard",
        "/skep.raft.v1.Raft/Unheard",
        "/nothing",
    ] {
        assert_eq!(ask(rig.stranger().await, path).await, Code::PermissionDenied, "{path}");
        assert_eq!(ask(rig.connect(&worker).await, path).await, Code::Unimplemented, "{path}");
    }

    let mut client = DispatcherClient::new(rig.connect(&worker).await);
    let mut long = session();
    long.description.as_mut().unwrap().hostname = "a".repeat(1 << 20);
    let refused = client.session(long).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    rig.manager.stop().await;
}
