//! The gossip machine on this host's sockets and clock.

use skep_gossip::{
    Config, Counters, DropCause, EntryId, Event, FrameReader, Gossip, Keyring, Limits, Moment,
    NetworkId, NodeName, Output, Token,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// UDP and TCP port of gossip; not configurable in a swarm.
pub const PORT: u16 = 7946;
/// Streams of others that are read at the same time. More wait in the kernel's queue.
const STREAMS: usize = 64;
/// The same of one address: a stranger must not keep the others out.
const STREAMS_OF_ONE: usize = 16;
/// What all those streams together may have said before any is whole, in units of [`CHUNK`]: what a
/// stranger sends is known as such only at its end.
const BUDGET: usize = (64 << 20) / CHUNK;
/// Most that is read from a stream at once, bytes.
const CHUNK: usize = 16 << 10;
/// How long somebody who connected may take to say something whole.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest UDP payload.
const DATAGRAM: usize = 65_536;
/// Packets read before anything else is looked at again.
const BURST: usize = 64;

/// What this node wants.
#[derive(Debug)]
pub enum Wish {
    /// Take part in a network.
    Join(NetworkId),
    /// Take part no longer; its entries are forgotten without events.
    Part(NetworkId),
    /// Say this.
    Put(EntryId, Vec<u8>),
    /// Say it no longer.
    Delete(EntryId),
    /// Ask a node this, for some time at most.
    Ask(NodeName, u64, Vec<u8>, Duration),
    /// Answer a node's question.
    Answer(NodeName, u64),
    /// Use these keys.
    Keys(Keyring),
    /// Nodes to begin with, and to return to when nobody is known.
    Bootstrap(Vec<SocketAddr>),
    /// Say good-bye and end.
    Leave(oneshot::Sender<()>),
}

/// Where and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of this life.
    pub name: NodeName,
    /// Where to listen.
    pub listen: IpAddr,
    /// The address others are told.
    pub advertise: IpAddr,
}

/// What waits in queues that have no bound of their own: it is bounded by what makes it, the changes of this host's own
/// endpoints and of the swarm's.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Wishes of this host.
    pub wishes: AtomicUsize,
    /// Bundles of events.
    pub events: AtomicUsize,
}

/// A machine at work. It ends when this is dropped, without a good-bye.
pub struct Runner {
    wishes: mpsc::UnboundedSender<Wish>,
    waiting: Arc<Waiting>,
    counters: Arc<Mutex<Counters>>,
    /// Closed when its sockets are.
    ended: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Runner {
    /// Binds both sockets and starts. Events go to `events` until the end; those of one cause come
    /// together.
    ///
    /// # Errors
    /// The port is taken, or `listen` is not an address of this host.
    pub async fn start(
        identity: &Identity,
        keyring: Option<Keyring>,
        events: mpsc::UnboundedSender<Vec<Event>>,
    ) -> io::Result<Self> {
        let address = SocketAddr::new(identity.listen, PORT);
        let udp = Arc::new(UdpSocket::bind(address).await?);
        let tcp = TcpListener::bind(address).await?;
        let encrypted = keyring.is_some();
        let advertise = SocketAddr::new(identity.advertise, PORT);
        let config = Config::new(identity.name.clone(), advertise, keyring);
        let limits = config.limits;
        let start = Instant::now();
        let machine = Gossip::new(config, Moment::default(), rand::random());
        let counters = Arc::new(Mutex::new(machine.counters().clone()));
        let (wishes, wished) = mpsc::unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        let (inbound, asked) = mpsc::channel(STREAMS);
        let (outcomes, finished) = mpsc::unbounded_channel();
        let work = Work {
            machine,
            start,
            udp,
            events,
            outcomes,
            encrypted,
            limits,
            counters: Arc::clone(&counters),
            waiting: Arc::clone(&waiting),
            leaving: None,
        };
        // Ends with the task, also where that is given up.
        let mut listener = JoinSet::new();
        listener.spawn(listen(tcp, inbound, limits, encrypted));
        let (open, ended) = watch::channel(());
        let task = tokio::spawn(async move {
            work.run(wished, asked, finished).await;
            // Its socket is closed when it has ended.
            listener.shutdown().await;
            drop(open);
        });
        Ok(Self { wishes, waiting, counters, ended, task })
    }

    /// Passes a wish on; after the end there is nothing left to wish for.
    pub fn wish(&self, wish: Wish) {
        if self.wishes.send(wish).is_ok() {
            self.waiting.wishes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How much waits to be done.
    pub fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// What was counted, as it was a moment ago.
    pub fn counters(&self) -> Counters {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says good-bye, and closes its sockets, at most for `limit`.
    pub async fn leave(&self, limit: Duration) {
        let (done, told) = oneshot::channel();
        self.wish(Wish::Leave(done));
        let mut ended = self.ended.clone();
        let closed = async {
            let _ = told.await;
            // Nothing is ever sent: it waits for the end.
            let _ = ended.changed().await;
        };
        // Whoever does not hear it notices by itself, only later.
        let _ = tokio::time::timeout(limit, closed).await;
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A stream that somebody opened.
enum Asked {
    /// What it said, and where the answer goes.
    Frame { from: SocketAddr, frame: Vec<u8>, answer: oneshot::Sender<Option<Vec<u8>>> },
    /// It said nothing that could be read.
    Bad(DropCause),
}

/// How a stream of ours went.
struct Finished {
    token: Token,
    outcome: io::Result<Option<Vec<u8>>>,
}

struct Work {
    machine: Gossip,
    start: Instant,
    udp: Arc<UdpSocket>,
    events: mpsc::UnboundedSender<Vec<Event>>,
    outcomes: mpsc::UnboundedSender<Finished>,
    encrypted: bool,
    limits: Limits,
    counters: Arc<Mutex<Counters>>,
    waiting: Arc<Waiting>,
    leaving: Option<oneshot::Sender<()>>,
}

impl Work {
    async fn run(
        mut self,
        mut wished: mpsc::UnboundedReceiver<Wish>,
        mut asked: mpsc::Receiver<Asked>,
        mut finished: mpsc::UnboundedReceiver<Finished>,
    ) {
        let udp = Arc::clone(&self.udp);
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let wait = self.machine.next_deadline().map(|at| at.since(self.now()));
            tokio::select! {
                packet = udp.recv_from(&mut buffer) => match packet {
                    Ok((size, from)) => {
                        self.packet(from, &buffer[..size]);
                        self.burst(&mut buffer);
                    }
                    // A refusal by somebody we had sent to; there is nobody to blame here.
                    Err(error) => tracing::trace!(%error, "gossip packet"),
                },
                Some(wish) = wished.recv() => {
                    self.waiting.wishes.fetch_sub(1, Ordering::Relaxed);
                    self.wish(wish);
                }
                Some(stream) = asked.recv() => self.asked(stream),
                Some(Finished { token, outcome }) = finished.recv() => self.finished(token, outcome),
                () = sleep(wait) => {}
                else => return,
            }
            let now = self.now();
            if self.machine.next_deadline().is_some_and(|at| at <= now) {
                self.machine.tick(now);
            }
            if self.carry_out() {
                return;
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::from_millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn packet(&mut self, from: SocketAddr, bytes: &[u8]) {
        let now = self.now();
        self.machine.handle_packet(from, bytes, now);
    }

    /// Reads what has come in meanwhile.
    fn burst(&mut self, buffer: &mut [u8]) {
        let udp = Arc::clone(&self.udp);
        for _ in 0..BURST {
            match udp.try_recv_from(buffer) {
                Ok((size, from)) => self.packet(from, &buffer[..size]),
                Err(_) => return,
            }
        }
    }

    fn wish(&mut self, wish: Wish) {
        let now = self.now();
        let done = match wish {
            Wish::Join(network) => self.machine.join_network(&network, now),
            Wish::Part(network) => self.machine.leave_network(&network, now),
            Wish::Put(id, value) => self.machine.put(id, value, now).map(drop),
            Wish::Delete(id) => self.machine.delete(&id, now),
            Wish::Ask(node, number, question, time) => {
                self.machine.ask_node(&node, number, question, time, now)
            }
            Wish::Answer(node, number) => {
                self.machine.answer_node(&node, number, now);
                Ok(())
            }
            Wish::Keys(keyring) => {
                self.machine.set_keyring(Some(keyring));
                Ok(())
            }
            Wish::Bootstrap(peers) => {
                self.machine.set_bootstrap(peers, now);
                Ok(())
            }
            Wish::Leave(done) => {
                self.leaving = Some(done);
                self.machine.leave(now);
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "gossip cannot say what this host wants to");
        }
    }

    fn asked(&mut self, stream: Asked) {
        let now = self.now();
        match stream {
            Asked::Frame { from, frame, answer } => {
                // Who hung up needs no answer.
                let _ = answer.send(self.machine.handle_stream_request(from, &frame, now));
            }
            Asked::Bad(cause) => self.machine.handle_bad_stream(cause, now),
        }
    }

    fn finished(&mut self, token: Token, outcome: io::Result<Option<Vec<u8>>>) {
        let now = self.now();
        match outcome {
            Ok(Some(reply)) => self.machine.handle_stream_reply(token, &reply, now),
            Ok(None) => self.machine.handle_stream_sent(token, now),
            Err(error) => {
                tracing::debug!(%error, "a gossip stream failed");
                self.machine.handle_stream_failed(token, now);
            }
        }
    }

    /// Whether this is the end.
    fn carry_out(&mut self) -> bool {
        let mut events = Vec::new();
        for output in self.machine.take_outputs() {
            match output {
                Output::Packet { to, bytes } => {
                    // A full buffer or an unreachable host is a lost packet, which the protocol
                    // expects.
                    if let Err(error) = self.udp.try_send_to(&bytes, to) {
                        tracing::trace!(%to, %error, "gossip packet");
                    }
                }
                Output::Stream { token, to, bytes, expects_reply, timeout } => {
                    let outcomes = self.outcomes.clone();
                    let reader =
                        expects_reply.then(|| FrameReader::new(self.limits.stream, self.encrypted));
                    tokio::spawn(async move {
                        let outcome =
                            match tokio::time::timeout(timeout, talk(to, &bytes, reader)).await {
                                Ok(outcome) => outcome,
                                Err(_) => Err(io::ErrorKind::TimedOut.into()),
                            };
                        // Nobody is left to be told at the end.
                        let _ = outcomes.send(Finished { token, outcome });
                    });
                }
                Output::Event(Event::LeaveDone) => {
                    if let Some(done) = self.leaving.take() {
                        // Who stopped waiting does not need to know.
                        let _ = done.send(());
                    }
                    return true;
                }
                Output::Event(event) => events.push(event),
            }
        }
        if !events.is_empty() {
            // The listener ends only together with us.
            if self.events.send(events).is_ok() {
                self.waiting.events.fetch_add(1, Ordering::Relaxed);
            }
        }
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) =
            self.machine.counters().clone();
        false
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn listen(tcp: TcpListener, inbound: mpsc::Sender<Asked>, limits: Limits, encrypted: bool) {
    let places = Arc::new(Semaphore::new(STREAMS));
    let budget = Arc::new(Semaphore::new(BUDGET));
    let mut guests = BTreeMap::<IpAddr, Arc<Semaphore>>::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, from) = match tcp.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a gossip stream");
                // Most likely out of file descriptors: leave time to give some back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        guests.retain(|_, places| places.available_permits() < STREAMS_OF_ONE);
        let own =
            guests.entry(from.ip()).or_insert_with(|| Arc::new(Semaphore::new(STREAMS_OF_ONE)));
        let inbound = inbound.clone();
        let Ok(own_place) = Arc::clone(own).try_acquire_owned() else {
            // At the end nobody counts any more.
            let _ = inbound.send(Asked::Bad(DropCause::Full)).await;
            continue;
        };
        let reader = FrameReader::new(limits.stream, encrypted);
        let budget = Arc::clone(&budget);
        tokio::spawn(async move {
            let _places = (place, own_place);
            let outcome =
                tokio::time::timeout(PATIENCE, serve(stream, from, reader, &inbound, budget)).await;
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%from, %error, "a gossip stream of another node"),
                Err(_) => {
                    tracing::debug!(%from, "a gossip stream took too long");
                    // At the end nobody counts any more.
                    let _ = inbound.send(Asked::Bad(DropCause::Truncated)).await;
                }
            }
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    reader: FrameReader,
    inbound: &mpsc::Sender<Asked>,
    budget: Arc<Semaphore>,
) -> io::Result<()> {
    let frame = match read(&mut stream, reader, Some(budget)).await {
        Ok(Ok(frame)) => frame,
        Ok(Err(cause)) => {
            // At the end nobody counts any more.
            let _ = inbound.send(Asked::Bad(cause)).await;
            return Ok(());
        }
        Err(error) => {
            // At the end nobody counts any more.
            let _ = inbound.send(Asked::Bad(DropCause::Truncated)).await;
            return Err(error);
        }
    };
    let (answer, answered) = oneshot::channel();
    if inbound.send(Asked::Frame { from, frame, answer }).await.is_err() {
        return Ok(());
    }
    if let Ok(Some(reply)) = answered.await {
        stream.write_all(&reply).await?;
    }
    stream.shutdown().await
}

/// One stream of ours. With a reader an answer is waited for.
async fn talk(
    to: SocketAddr,
    bytes: &[u8],
    reader: Option<FrameReader>,
) -> io::Result<Option<Vec<u8>>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(bytes).await?;
    let reply = match reader {
        Some(reader) => Some(
            read(&mut stream, reader, None)
                .await?
                .map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause.as_str()))?,
        ),
        None => None,
    };
    // Who answered may be gone already.
    let _ = stream.shutdown().await;
    Ok(reply)
}

/// One frame, or what is wrong with it. With a budget it takes its place there while it grows.
async fn read(
    stream: &mut TcpStream,
    mut reader: FrameReader,
    budget: Option<Arc<Semaphore>>,
) -> io::Result<Result<Vec<u8>, DropCause>> {
    let mut buffer = vec![0; CHUNK];
    let mut taken = 0;
    // Given back when this frame is read, or given up.
    let mut held: Option<OwnedSemaphorePermit> = None;
    loop {
        let size = stream.read(&mut buffer).await?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        taken += size;
        if let Some(budget) = &budget {
            while held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * CHUNK < taken {
                match (Arc::clone(budget).try_acquire_owned(), &mut held) {
                    (Ok(more), Some(held)) => held.merge(more),
                    (Ok(first), none) => *none = Some(first),
                    (Err(_), _) => return Ok(Err(DropCause::Full)),
                }
            }
        }
        match reader.push(&buffer[..size]) {
            Ok(true) => return Ok(Ok(reader.into_frame())),
            Ok(false) => {}
            Err(cause) => return Ok(Err(cause)),
        }
    }
}
