use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;

use crate::{CertError, TlsHandle};

/// A client has this long for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes that may be under way at once; more wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 256;

/// After a failed accept (no file descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of a listening socket whose handshake is done, for `tonic`'s `serve_with_incoming`.
///
/// Handshakes run side by side, so that a slow client delays nobody; those that fail are logged, counted
/// and dropped. Dropping the stream closes the listener and ends handshakes that are under way.
#[derive(Debug)]
pub struct TlsIncoming {
    ready: mpsc::Receiver<TlsStream<TcpStream>>,
    _accepting: JoinSet<()>,
}

impl TlsIncoming {
    /// Must be called inside a tokio runtime.
    pub fn new(listener: TcpListener, tls: &TlsHandle) -> Result<Self, CertError> {
        let acceptor = TlsAcceptor::from(tls.server_config()?);
        let (sender, ready) = mpsc::channel(1);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, acceptor, tls.clone(), sender));
        Ok(Self { ready, _accepting: accepting })
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    tls: TlsHandle,
    ready: mpsc::Sender<TlsStream<TcpStream>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        if handshakes.len() >= MAX_HANDSHAKES {
            handshakes.join_next().await;
        }
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let acceptor = acceptor.clone();
        let (tls, ready) = (tls.clone(), ready.clone());
        handshakes.spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "cannot switch off Nagle's algorithm");
            }
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                // The receiver is gone only when the server has stopped.
                Ok(Ok(stream)) => drop(ready.send(stream).await),
                Ok(Err(error)) => {
                    tls.refuse();
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                }
                Err(_) => {
                    tls.refuse();
                    tracing::debug!(%peer, "TLS handshake took too long");
                }
            }
        });
    }
}
