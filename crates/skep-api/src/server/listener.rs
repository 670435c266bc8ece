use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{serve_connection, serve_tls};
use super::service::ApiService;

/// The group that may use the unix socket besides root.
const GROUP: &str = "docker";

/// For the owner and the group.
const MODE: u32 = 0o660;

/// Pause after a failed `accept`: without descriptors it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process answers there.
    #[error("another daemon listens on {}", .0.display())]
    InUse(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("{} exists and is not a socket: move it away", .0.display())]
    NotASocket(PathBuf),
    /// Whoever reaches this port would be root on this host.
    #[error(
        "refusing to serve the API on {0} without TLS client verification: only loopback addresses may"
    )]
    Insecure(SocketAddr),
    /// The system refused.
    #[error("cannot {action} {address}")]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        address: String,
        /// Cause.
        source: io::Error,
    },
}

enum Socket {
    Unix {
        listener: UnixListener,
        file: Option<SocketFile>,
    },
    Tcp {
        listener: TcpListener,
        address: SocketAddr,
    },
    /// For what anybody may read.
    Public {
        listener: TcpListener,
        address: SocketAddr,
    },
    Tls {
        listener: TcpListener,
        address: SocketAddr,
        acceptor: TlsAcceptor,
    },
}

/// The file of a unix socket, removed when dropped: at the end of serving, or if nothing came of it. Not if
/// another one is in its place.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: PathBuf) -> io::Result<Self> {
        let inode = Self::inode(&path)?;
        Ok(Self { path, inode })
    }

    fn inode(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::inode(&self.path).is_ok_and(|inode| inode == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// A bound socket that the API will answer on. Connections queue from the moment it is made.
pub struct Listener(Socket);

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Socket::Unix { file: Some(file), .. } => write!(f, "unix://{}", file.path.display()),
            Socket::Unix { file: None, .. } => f.write_str("unix socket from the service manager"),
            Socket::Tcp { address, .. } | Socket::Public { address, .. } => {
                write!(f, "tcp://{address}")
            }
            Socket::Tls { address, .. } => write!(f, "tcp://{address} (TLS)"),
        }
    }
}

impl Listener {
    /// Binds a unix socket for root and the group `docker`, mode 0660. A socket that nobody answers on
    /// is replaced; missing parent folders are made.
    ///
    /// Must be called within a tokio runtime, as the others here.
    ///
    /// # Errors
    /// If another process answers on it, something else is in the way, or the system refuses.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, ListenError> {
        let path = path.into();
        let failed = |action| {
            let address = path.display().to_string();
            move |source| ListenError::System { action, address, source }
        };
        if let Some(parent) = path.parent() {
            skep_sys::files::make_dirs(parent, 0o755).map_err(failed("make the folder of"))?;
        }
        make_way(&path)?;
        let listener = bind_private(&path).map_err(failed("listen on"))?;
        let file = SocketFile::of(path.clone()).map_err(failed("listen on"))?;
        match nix::unistd::Group::from_name(GROUP) {
            Ok(Some(group)) => std::os::unix::fs::chown(&path, None, Some(group.gid.as_raw()))
                .map_err(failed("set the group of"))?,
            Ok(None) => {
                tracing::debug!(group = GROUP, "no such group; only the owner may use the socket")
            }
            Err(error) => {
                tracing::warn!(group = GROUP, %error, "cannot look up the socket's group")
            }
        }
        let listener = nonblocking_unix(listener).map_err(failed("listen on"))?;
        Ok(Self(Socket::Unix { listener, file: Some(file) }))
    }

    /// A unix socket that the service manager bound (`fd://`). It is not removed at the end.
    ///
    /// # Errors
    /// If the system refuses to make it non-blocking.
    pub fn inherited(listener: StdUnixListener) -> Result<Self, ListenError> {
        let listener = nonblocking_unix(listener).map_err(|source| ListenError::System {
            action: "listen on",
            address: "the service manager's socket".to_owned(),
            source,
        })?;
        Ok(Self(Socket::Unix { listener, file: None }))
    }

    /// A port that the service manager bound, with TLS as in [`Listener::tls`] if there is a `config`.
    ///
    /// # Errors
    /// If it has no TLS and is not on a loopback address, or the system refuses.
    pub fn inherited_tcp(
        listener: std::net::TcpListener,
        config: Option<Arc<ServerConfig>>,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError::System {
            action: "listen on",
            address: "the service manager's port".to_owned(),
            source,
        };
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        Ok(Self(match config {
            Some(config) => Socket::Tls { listener, address, acceptor: TlsAcceptor::from(config) },
            None if address.ip().is_loopback() => Socket::Tcp { listener, address },
            None => return Err(ListenError::Insecure(address)),
        }))
    }

    /// Binds a port without TLS, on loopback only.
    ///
    /// # Errors
    /// If the address is not a loopback address, or the system refuses.
    pub async fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::Insecure(address));
        }
        let (listener, address) = bind(address).await?;
        Ok(Self(Socket::Tcp { listener, address }))
    }

    /// A bound port for something that may be public, as counters are; never for the API itself.
    pub(super) fn open_to_all(listener: TcpListener) -> Result<Self, ListenError> {
        let address = listener.local_addr().map_err(|source| ListenError::System {
            action: "listen on",
            address: "the metrics port".to_owned(),
            source,
        })?;
        Ok(Self(Socket::Public { listener, address }))
    }

    /// Binds a port with TLS. `config` must demand and verify client certificates: whoever gets in is
    /// root on this host.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn tls(address: SocketAddr, config: Arc<ServerConfig>) -> Result<Self, ListenError> {
        let (listener, address) = bind(address).await?;
        Ok(Self(Socket::Tls { listener, address, acceptor: TlsAcceptor::from(config) }))
    }

    /// The address of a port, with the number the system chose if 0 was asked for.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Unix { .. } => None,
            Socket::Tcp { address, .. }
            | Socket::Public { address, .. }
            | Socket::Tls { address, .. } => Some(*address),
        }
    }

    /// What the user is to know of this listener, in Docker's words: on a port without encryption
    /// everybody who can reach it is root.
    pub fn warning(&self) -> Option<String> {
        let Socket::Tcp { address, .. } = &self.0 else { return None };
        Some(format!(
            "WARNING: API is accessible on http://{address} without encryption.\n         \
             Access to the remote API is equivalent to root access on the host. Refer\n         \
             to the 'Docker daemon attack surface' section in the documentation for\n         \
             more information: https://docs.docker.com/go/attack-surface/"
        ))
    }

    /// Takes connections until `shutdown`, then closes, and removes its socket file.
    pub(super) async fn accept_all(
        self,
        service: ApiService,
        shutdown: CancellationToken,
        connections: TaskTracker,
    ) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.accept_loop(&service, &shutdown, &connections) => {}
        }
    }

    async fn accept_loop(
        &self,
        service: &ApiService,
        shutdown: &CancellationToken,
        connections: &TaskTracker,
    ) {
        loop {
            let (service, shutdown) = (service.clone(), shutdown.clone());
            let accepted = match &self.0 {
                Socket::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| {
                    connections.spawn(serve_connection(stream, service, shutdown));
                }),
                Socket::Tcp { listener, .. } => listener.accept().await.map(|(stream, _)| {
                    no_delay(&stream);
                    connections.spawn(serve_connection(stream, service.exposed(), shutdown));
                }),
                Socket::Public { listener, .. } => listener.accept().await.map(|(stream, _)| {
                    no_delay(&stream);
                    connections.spawn(serve_connection(stream, service, shutdown));
                }),
                Socket::Tls { listener, acceptor, .. } => {
                    listener.accept().await.map(|(stream, peer)| {
                        no_delay(&stream);
                        connections.spawn(serve_tls(
                            acceptor.clone(),
                            stream,
                            peer,
                            service,
                            shutdown,
                        ));
                    })
                }
            };
            if let Err(error) = accepted {
                tracing::warn!(listener = %self, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Binds a unix socket that has its mode from the first moment, whatever the umask: the kernel takes
/// it from the unbound socket (`unix_bind`).
fn bind_private(path: &Path) -> io::Result<StdUnixListener> {
    let mode = Mode::from_bits_truncate(MODE);
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&socket, mode)?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // The umask may have taken the group's part away.
    #[expect(
        clippy::disallowed_methods,
        reason = "a socket has no descriptor that stands for its file"
    )]
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    Ok(StdUnixListener::from(socket))
}

/// Terminals send single characters.
fn no_delay(stream: &tokio::net::TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
}

fn nonblocking_unix(listener: StdUnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError::System {
        action: "listen on",
        address: format!("tcp://{address}"),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Removes a socket that a daemon left behind.
fn make_way(path: &Path) -> Result<(), ListenError> {
    let failed = |action| {
        let address = path.display().to_string();
        move |source| ListenError::System { action, address, source }
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    if StdUnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    fs::remove_file(path).map_err(failed("remove the old socket"))
}
