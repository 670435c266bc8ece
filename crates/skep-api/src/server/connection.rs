use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::GRACE;
use super::service::ApiService;

/// A client that says nothing must not hold a descriptor for ever.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A request's head must be there this long after the connection is ready for it: Docker's time. It is
/// generous, since clients keep connections for their next request, and short enough that connections on
/// which nothing whole comes do not gather.
const HEAD_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Serves one connection until it ends, is taken over, or the daemon stops.
pub(super) async fn serve_connection<S>(stream: S, service: ApiService, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        // A client that hangs up, mostly.
        tracing::debug!(%error, "connection ended early");
    }
}

/// As `serve_connection`, after the handshake. A failed one concerns only its client.
pub(super) async fn serve_tls(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    service: ApiService,
    shutdown: CancellationToken,
) {
    match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve_connection(stream, service, shutdown).await,
        Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::info!(%peer, "TLS handshake took too long"),
    }
}
