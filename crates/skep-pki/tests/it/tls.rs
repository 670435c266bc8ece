use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use skep_pki::{Identity, MANAGER_SERVER_NAME, TlsHandle, TlsIncoming, root_client};
use skep_types::NodeRole;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;

use crate::Swarm;

const LIMIT: Duration = Duration::from_secs(30);

/// A server that tells every client whom it saw.
async fn serve(tls: &TlsHandle) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut incoming = TlsIncoming::new(listener, tls).unwrap();
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = incoming.next().await {
            let chain = stream.get_ref().1.peer_certificates();
            let name = chain.map(|chain| Identity::of(&chain[0]).unwrap().node_id.to_string());
            let name = name.unwrap_or_else(|| "nobody".to_owned());
            stream.write_all(name.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

/// Whom the client saw, and whom the server says it saw.
async fn meet(
    address: &str,
    client: Arc<ClientConfig>,
    name: &'static str,
) -> io::Result<(String, String)> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name).unwrap();
    let mut stream = TlsConnector::from(client).connect(name, stream).await?;
    let mut seen = String::new();
    stream.read_to_string(&mut seen).await?;
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    let server = Identity::of(&session.peer_certificates().unwrap()[0]).unwrap();
    Ok((server.node_id.to_string(), seen))
}

#[tokio::test]
async fn nodes_of_a_swarm_know_each_other() {
    let swarm = Swarm::new();
    let address = serve(&TlsHandle::new(swarm.issue("manager", NodeRole::Manager))).await;
    let worker = TlsHandle::new(swarm.issue("worker", NodeRole::Worker));
    let seen = meet(&address, worker.client_config().unwrap(), MANAGER_SERVER_NAME).await.unwrap();
    assert_eq!(seen, ("manager".to_owned(), "worker".to_owned()));
    let seen = meet(&address, root_client(&swarm.trust).unwrap(), "swarm-ca").await.unwrap();
    assert_eq!(seen.1, "nobody");
}

#[tokio::test]
async fn a_worker_is_no_manager_and_strangers_are_refused() {
    let swarm = Swarm::new();
    let impostor = serve(&TlsHandle::new(swarm.issue("impostor", NodeRole::Worker))).await;
    let worker = TlsHandle::new(swarm.issue("worker", NodeRole::Worker));
    let client = worker.client_config().unwrap();
    meet(&impostor, client.clone(), MANAGER_SERVER_NAME).await.unwrap_err();

    let stranger = TlsHandle::new(Swarm::new().issue("stranger", NodeRole::Manager));
    let theirs = serve(&stranger).await;
    meet(&theirs, client, MANAGER_SERVER_NAME).await.unwrap_err();
    let ours = serve(&TlsHandle::new(swarm.issue("manager", NodeRole::Manager))).await;
    meet(&ours, stranger.client_config().unwrap(), MANAGER_SERVER_NAME).await.unwrap_err();
}

#[tokio::test]
async fn settings_follow_a_renewal_and_a_new_root() {
    let (old, new) = (Swarm::new(), Swarm::new());
    let server = TlsHandle::new(old.issue("manager", NodeRole::Manager));
    let client = TlsHandle::new(old.issue("before", NodeRole::Worker));
    let address = serve(&server).await;
    let config = client.client_config().unwrap();
    let mut watch = client.watch();

    client.replace(old.issue("after", NodeRole::Worker));
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow_and_update().identity().node_id.as_str(), "after");
    let seen = meet(&address, config.clone(), MANAGER_SERVER_NAME).await.unwrap();
    assert_eq!(seen.1, "after");

    server.replace(new.issue("manager2", NodeRole::Manager));
    meet(&address, config.clone(), MANAGER_SERVER_NAME).await.unwrap_err();
    client.replace(new.issue("moved", NodeRole::Worker));
    let seen = meet(&address, config, MANAGER_SERVER_NAME).await.unwrap();
    assert_eq!(seen, ("manager2".to_owned(), "moved".to_owned()));
}

#[tokio::test]
async fn a_silent_client_delays_nobody() {
    let swarm = Swarm::new();
    let address = serve(&TlsHandle::new(swarm.issue("manager", NodeRole::Manager))).await;
    let _silent = TcpStream::connect(&address).await.unwrap();
    let worker = TlsHandle::new(swarm.issue("worker", NodeRole::Worker));
    let meeting = meet(&address, worker.client_config().unwrap(), MANAGER_SERVER_NAME);
    let limit = std::time::Duration::from_secs(5);
    tokio::time::timeout(limit, meeting).await.unwrap().unwrap();
}

/// A connection to `address` from another loopback address.
async fn from(source: [u8; 4], address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(source), 0).into()).unwrap();
    socket.connect(address.parse().unwrap()).await.unwrap()
}

/// Whether the server has hung up; waits for it if `expected`.
async fn ended(stream: &mut TcpStream, expected: bool) -> bool {
    let mut byte = [0];
    if expected {
        tokio::time::timeout(LIMIT, stream.read(&mut byte)).await.unwrap().is_ok_and(|n| n == 0)
    } else {
        !matches!(stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

#[tokio::test]
async fn silent_connections_of_one_address_delay_nobody_else() {
    let swarm = Swarm::new();
    let server = TlsHandle::new(swarm.issue("manager", NodeRole::Manager));
    let address = serve(&server).await;
    let mut silent = Vec::new();
    for _ in 0..2000 {
        silent.push(from([127, 0, 0, 9], &address).await);
    }
    let worker = TlsHandle::new(swarm.issue("worker", NodeRole::Worker));
    let client = worker.client_config().unwrap();
    let met = meet(&address, client.clone(), MANAGER_SERVER_NAME);
    let seen = tokio::time::timeout(LIMIT, met).await.expect("a node gets in").unwrap();
    assert_eq!(seen.1, "worker");
    // The oldest of that address went, its share stays.
    let share = 32;
    for stream in &mut silent[..2000 - share] {
        assert!(ended(stream, true).await);
    }
    let first_kept = 2000 - share;
    assert!(!ended(&mut silent[first_kept], false).await);
    assert_eq!(server.refused(), first_kept as u64);

    // From many addresses: the oldest of all make room.
    let mut crowd = Vec::new();
    for n in 0..300 {
        crowd.push(from([127, 0, 1 + (n / 10) as u8, 1], &address).await);
    }
    let met = meet(&address, client, MANAGER_SERVER_NAME);
    let seen = tokio::time::timeout(LIMIT, met).await.expect("a node gets in").unwrap();
    assert_eq!(seen.1, "worker");
    assert!(ended(&mut silent[first_kept], true).await);
    assert!(!ended(&mut crowd[299], false).await);
}

#[tokio::test]
async fn only_connections_without_a_certificate_are_cut_off_for_others() {
    let swarm = Swarm::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = TlsHandle::new(swarm.issue("manager", NodeRole::Manager));
    let mut incoming = TlsIncoming::new(listener, &server).unwrap();
    // Answers who says something, for as long as they stay.
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = incoming.next().await {
            tokio::spawn(async move {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await.unwrap();
                }
            });
        }
    });
    let open = async |config: Arc<ClientConfig>| {
        let stream = TcpStream::connect(&address).await.unwrap();
        let name = ServerName::try_from("swarm-ca").unwrap();
        TlsConnector::from(config).connect(name, stream).await.unwrap()
    };
    let manager = TlsHandle::new(swarm.issue("other", NodeRole::Manager));
    let mut known = open(manager.client_config().unwrap()).await;
    let mut byte = [7];
    known.write_all(&byte).await.unwrap();
    known.read_exact(&mut byte).await.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..33 {
        let mut stream = open(root_client(&swarm.trust).unwrap()).await;
        stream.write_all(&byte).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
        strangers.push(stream);
    }
    let gone = tokio::time::timeout(LIMIT, strangers[0].read(&mut byte)).await.unwrap();
    assert!(gone.is_err() || gone.is_ok_and(|n| n == 0));
    for stream in [&mut known, &mut strangers[32]] {
        stream.write_all(&byte).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
    }
}
