use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;

use super::connection::TlsConnection;
use super::strangers::Strangers;
use crate::{CertError, TlsHandle};

/// A client has this long for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// After a failed accept (no file descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of a listening socket whose handshake is done, for `tonic`'s `serve_with_incoming`.
///
/// Handshakes run side by side, so that a slow client delays nobody; those that fail are logged, counted
/// and dropped. Those under way and connections without a certificate are bounded for each address and
/// in all; the oldest go first, so that nobody keeps others out. Dropping the stream closes the listener and ends handshakes that are under way.
#[derive(Debug)]
pub struct TlsIncoming {
    ready: mpsc::Receiver<TlsConnection>,
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
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    tls: TlsHandle,
    ready: mpsc::Sender<TlsConnection>,
) {
    let mut handshakes = JoinSet::new();
    let strangers = Strangers::default();
    loop {
        while handshakes.try_join_next().is_some() {}
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
        let place = strangers.enter(peer.ip());
        handshakes.spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "cannot switch off Nagle's algorithm");
            }
            let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
            let done = tokio::select! {
                done = handshake => done,
                () = place.sent_away() => {
                    tls.refuse();
                    tracing::debug!(%peer, "gave the place of a TLS handshake to somebody else");
                    return;
                }
            };
            match done {
                // The receiver is gone only when the server has stopped.
                Ok(Ok(stream)) => drop(ready.send(TlsConnection::new(stream, place)).await),
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
