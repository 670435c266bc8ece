//! Asking the outside: queries and answers travel as they are, extensions included.

use super::core::Transport;
use skep_sys::netns::NetNs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many servers are tried; the resolvers of C libraries read as many.
const SERVERS: usize = 3;
/// Where servers listen.
const PORT: u16 = 53;
/// Low half of the second header word: the response code's bits and some that say
/// SERVFAIL or REFUSED.
const CODE_MASK: u8 = 0x0f;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// Where to ask.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Servers, in order.
    pub servers: Vec<IpAddr>,
    /// Namespace to ask from; the daemon's own when `None`.
    pub namespace: Option<Arc<NetNs>>,
}

/// Asks one server after another until one gives an answer that settles the matter.
/// The last unsettling answer is better than none. `None` when nobody answered.
pub async fn ask(upstream: &Upstream, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut last = None;
    for server in upstream.servers.iter().take(SERVERS) {
        let address = SocketAddr::new(*server, PORT);
        let attempt = async {
            match transport {
                Transport::Udp => over_udp(upstream.namespace.clone(), address, query).await,
                Transport::Tcp => over_tcp(upstream.namespace.clone(), address, query).await,
            }
        };
        match timeout(PATIENCE, attempt).await {
            Ok(Ok(answer)) => {
                let code = answer.get(3).map_or(SERVFAIL, |b| b & CODE_MASK);
                if code != SERVFAIL && code != REFUSED {
                    return Some(answer);
                }
                last = Some(answer);
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "name server failed"),
            Err(_) => tracing::debug!(%address, "name server did not answer in time"),
        }
    }
    last
}

async fn over_udp(
    namespace: Option<Arc<NetNs>>,
    server: SocketAddr,
    query: &[u8],
) -> io::Result<Vec<u8>> {
    let any = any_address(server);
    let socket = inside(namespace, move || {
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
    .await?;
    let socket = UdpSocket::from_std(socket)?;
    // Connected: answers from anyone else do not get here, and refusals do.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if answer.get(..2) == query.get(..2) && length >= 12 {
            return Ok(answer.to_vec());
        }
    }
}

async fn over_tcp(
    namespace: Option<Arc<NetNs>>,
    server: SocketAddr,
    query: &[u8],
) -> io::Result<Vec<u8>> {
    let socket =
        inside(
            namespace,
            move || if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() },
        );
    let mut stream = socket.await?.connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answer.get(..2) != query.get(..2) || answer.len() < 12 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

/// Opens a socket in a namespace.
async fn inside<T: Send + 'static>(
    namespace: Option<Arc<NetNs>>,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match namespace {
        None => open(),
        Some(ns) => {
            tokio::task::spawn_blocking(move || ns.run(open)).await.map_err(io::Error::other)??
        }
    }
}

fn any_address(server: SocketAddr) -> SocketAddr {
    let any = if server.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    SocketAddr::new(any, 0)
}
