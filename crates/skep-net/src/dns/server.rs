//! The sockets of the embedded resolver and the tasks that serve them.

use super::core::{self, Transport, Verdict};
use super::forward::{self, Upstream};
use crate::error::{NetError, Result};
use crate::ids::SandboxId;
use crate::plan::RESOLVER;
use crate::world::NameIndex;
use hickory_proto::op::{Message, ResponseCode};
use rand::seq::SliceRandom as _;
use skep_sys::netns::NetNs;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Names of the sockets when they change hands.
const UDP: &str = "dns-udp";
const TCP: &str = "dns-tcp";
/// How long an idle TCP client is kept.
const IDLE: Duration = Duration::from_secs(10);
/// Queries of all sandboxes that may wait for upstream servers at a time.
const WAITING: usize = 1024;
/// The same of one sandbox: a dead server behind one must leave room for the others.
const WAITING_OF_ONE: usize = 64;
/// Packets of one sandbox that are being answered at a time; more are dropped, as a busy server does, and asked again.
const PACKETS_OF_ONE: usize = 256;
/// TCP connections of all sandboxes at a time, which are descriptors of the daemon's.
const STREAMS: usize = 1024;
/// The same of one sandbox; more wait in the kernel's queue.
const STREAMS_OF_ONE: usize = 32;
/// Pause after a failed accept, such as for want of file descriptors.
const BREATHER: Duration = Duration::from_millis(100);

/// What a query may know about its sandbox.
pub struct SandboxView {
    /// Names of all networks.
    pub names: Arc<NameIndex>,
    /// The sandbox's networks among them, in order.
    pub networks: Vec<crate::ids::NetworkId>,
}

/// Where queries learn about their sandbox.
pub trait Directory: Send + Sync + 'static {
    /// The sandbox now; `None` once it is gone.
    fn view(&self, sandbox: &SandboxId) -> Option<SandboxView>;

    /// Where to ask what is not known here; no servers where there is no way out.
    fn upstream(&self, sandbox: &SandboxId) -> Option<Upstream>;
}

/// The two sockets of a sandbox.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Opens them inside a sandbox, on ports the kernel picks.
    pub fn open(ns: &NetNs, sandbox: &SandboxId) -> Result<Self> {
        let failed = |source| NetError::DnsSocket { sandbox: sandbox.to_string(), source };
        let any = SocketAddr::from((RESOLVER, 0));
        ns.run(|| Self::prepared(UdpSocket::bind(any)?, TcpListener::bind(any)?))
            .and_then(|opened| opened)
            .map_err(failed)
    }

    /// Takes back what an earlier daemon handed out. `None` when one is missing.
    pub fn take_back(sockets: Vec<(String, OwnedFd)>) -> Option<Self> {
        let (mut udp, mut tcp) = (None, None);
        for (name, fd) in sockets {
            match name.as_str() {
                UDP => udp = Some(UdpSocket::from(fd)),
                TCP => tcp = Some(TcpListener::from(fd)),
                _ => {}
            }
        }
        Self::prepared(udp?, tcp?).ok()
    }

    fn prepared(udp: UdpSocket, tcp: TcpListener) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        // What was handed over must still be what it was.
        if udp.local_addr()?.ip() != RESOLVER || tcp.local_addr()?.ip() != RESOLVER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { udp, tcp })
    }

    /// Their ports, (UDP, TCP).
    pub fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.udp.local_addr()?.port(), self.tcp.local_addr()?.port()))
    }
}

/// One sandbox's service.
struct Served {
    udp: Arc<tokio::net::UdpSocket>,
    tcp: Arc<tokio::net::TcpListener>,
    /// Reached by a socket of these, which spares a descriptor.
    ns: Option<Arc<NetNs>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(Err(error)) = self.ns.as_ref().map(|ns| ns.reach_by_itself()) {
            tracing::warn!(%error, "a network namespace keeps a socket of its resolver");
        }
    }
}

/// The resolver of all sandboxes.
pub struct Resolver {
    directory: Arc<dyn Directory>,
    served: Mutex<BTreeMap<SandboxId, Served>>,
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Resolver {
    /// One without sandboxes.
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self {
            directory,
            served: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    /// Serves a sandbox until [`Resolver::stop`]. Its namespace, where it is open, needs no descriptor of its own
    /// meanwhile.
    pub fn serve(
        &self,
        sandbox: &SandboxId,
        ns: Option<Arc<NetNs>>,
        sockets: Sockets,
    ) -> Result<()> {
        let failed = |source| NetError::DnsSocket { sandbox: sandbox.to_string(), source };
        let udp = Arc::new(tokio::net::UdpSocket::from_std(sockets.udp).map_err(failed)?);
        let tcp = Arc::new(tokio::net::TcpListener::from_std(sockets.tcp).map_err(failed)?);
        let client = Client {
            sandbox: sandbox.clone(),
            directory: Arc::clone(&self.directory),
            waiting: Share::new(&self.waiting, WAITING_OF_ONE),
            streams: Share::new(&self.streams, STREAMS_OF_ONE),
            packets: Arc::new(Semaphore::new(PACKETS_OF_ONE)),
        };
        let tasks = vec![
            tokio::spawn(serve_udp(client.clone(), Arc::clone(&udp))),
            tokio::spawn(serve_tcp(client, Arc::clone(&tcp))),
        ];
        let reached = ns.as_ref().map(|ns| ns.reach_by(Arc::<tokio::net::UdpSocket>::clone(&udp)));
        if let Some(Err(error)) = reached {
            tracing::debug!(%sandbox, %error, "its namespace keeps a descriptor");
        }
        self.lock().insert(sandbox.clone(), Served { udp, tcp, ns, tasks });
        Ok(())
    }

    /// Whether a sandbox is served.
    pub fn serves(&self, sandbox: &SandboxId) -> bool {
        self.lock().contains_key(sandbox)
    }

    /// Stops serving and closes the sockets.
    pub fn stop(&self, sandbox: &SandboxId) {
        self.lock().remove(sandbox);
    }

    /// Stops serving everyone.
    pub fn stop_all(&self) {
        self.lock().clear();
    }

    /// Duplicates of a sandbox's sockets.
    pub fn duplicates(&self, sandbox: &SandboxId) -> Result<Vec<(String, OwnedFd)>> {
        let failed = |source| NetError::DnsSocket { sandbox: sandbox.to_string(), source };
        let served = self.lock();
        let Some(served) = served.get(sandbox) else { return Ok(Vec::new()) };
        let udp = served.udp.as_fd().try_clone_to_owned().map_err(failed)?;
        let tcp = served.tcp.as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(vec![(UDP.to_owned(), udp), (TCP.to_owned(), tcp)])
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SandboxId, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One sandbox's part of something that all share.
#[derive(Clone)]
struct Share {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Both are given back when this is dropped.
type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Share {
    fn new(all: &Arc<Semaphore>, of_one: usize) -> Self {
        Self { own: Arc::new(Semaphore::new(of_one)), all: Arc::clone(all) }
    }

    /// A place, if there is one at once.
    fn try_take(&self) -> Option<Places> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        Some((own, Arc::clone(&self.all).try_acquire_owned().ok()?))
    }

    /// One's own place, as soon as there is one. It comes first: who has many must not stand in the others' way.
    async fn own_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.own).acquire_owned().await.ok()
    }

    /// The one among all that belongs to it.
    async fn common_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).acquire_owned().await.ok()
    }
}

/// Who is asking.
#[derive(Clone)]
struct Client {
    sandbox: SandboxId,
    directory: Arc<dyn Directory>,
    waiting: Share,
    streams: Share,
    packets: Arc<Semaphore>,
}

impl Client {
    /// The bytes to answer with; `None` when there is nobody to answer.
    async fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        // What is no DNS message gets no answer: there is no id to put on it.
        let query = Message::from_vec(bytes).ok()?;
        let view = self.directory.view(&self.sandbox)?;
        let networks: Vec<_> =
            view.networks.iter().filter_map(|id| view.names.networks.get(id)).collect();
        let verdict = core::decide(&query, &networks, &mut |addresses: &mut [Ipv4Addr]| {
            addresses.shuffle(&mut rand::rng());
        });
        if let Verdict::Answer(answer) = verdict {
            return core::encode(&query, &answer, transport);
        }
        let failure =
            || core::encode(&query, &core::failure(&query, ResponseCode::ServFail), transport);
        let Some(_places) = self.waiting.try_take() else {
            tracing::warn!(sandbox = %self.sandbox, "too many names are being asked for at once");
            return failure();
        };
        // Not before it is known that it is needed.
        let Some(upstream) = self.directory.upstream(&self.sandbox) else { return failure() };
        match forward::ask(&upstream, bytes, transport).await {
            Some(answer) => Some(answer),
            None => failure(),
        }
    }
}

async fn serve_udp(client: Client, socket: Arc<tokio::net::UdpSocket>) {
    loop {
        let (query, from) = match receive(&socket).await {
            Ok(received) => received,
            Err(error) => {
                // An earlier answer's refusal comes back as this socket's error.
                tracing::debug!(sandbox = %client.sandbox, %error, "resolver socket");
                continue;
            }
        };
        let Ok(place) = Arc::clone(&client.packets).try_acquire_owned() else { continue };
        let (client, socket) = (client.clone(), Arc::clone(&socket));
        tokio::spawn(async move {
            let _place = place;
            if let Some(answer) = client.answer(&query, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, from).await
            {
                tracing::debug!(sandbox = %client.sandbox, %error, "cannot send an answer");
            }
        });
    }
}

/// The next packet, and who sent it. Nothing is held for it while there is none: most containers ask seldom.
async fn receive(socket: &tokio::net::UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    loop {
        // Readiness alone never gives way to others: who floods its resolver would have a thread for itself.
        tokio::task::coop::consume_budget().await;
        socket.readable().await?;
        let mut buffer = [0; 4096];
        match socket.try_recv_from(&mut buffer) {
            Ok((length, from)) => {
                return Ok((buffer.get(..length).unwrap_or_default().to_vec(), from));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn serve_tcp(client: Client, listener: Arc<tokio::net::TcpListener>) {
    loop {
        // The place among all is for who is there: those who only listen must not use them up.
        let Some(own) = client.streams.own_place().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(place) = client.streams.common_place().await else { return };
                let client = client.clone();
                tokio::spawn(async move {
                    let _places = (own, place);
                    if let Err(error) = serve_stream(&client, stream).await {
                        tracing::debug!(sandbox = %client.sandbox, %error, "resolver connection");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(sandbox = %client.sandbox, %error, "cannot accept a resolver connection");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}

async fn serve_stream(client: &Client, mut stream: tokio::net::TcpStream) -> io::Result<()> {
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => length,
            Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            // The client is done, or has nothing more to say.
            _ => return Ok(()),
        };
        let mut query = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut query))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let Some(answer) = client.answer(&query, Transport::Tcp).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_sandbox_leaves_room_for_the_others() {
        let all = Arc::new(Semaphore::new(3));
        let (one, other) = (Share::new(&all, 2), Share::new(&all, 2));
        let held: Vec<Places> = std::iter::from_fn(|| one.try_take()).collect();
        assert_eq!(held.len(), 2, "its share");
        let place = other.try_take().expect("room for the other");
        assert!(other.try_take().is_none(), "all are taken");
        // Refused by all, it must not have kept one of its own.
        drop(held);
        let second = other.try_take().expect("its second");
        drop((place, second));
        let mut again = Vec::new();
        again.extend(other.own_place().await.zip(other.common_place().await));
        again.extend(other.own_place().await.zip(other.common_place().await));
        assert_eq!(again.len(), 2);
        assert!(other.try_take().is_none());
    }
}
