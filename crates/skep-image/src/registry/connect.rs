//! Connections to registries: TCP or TLS, pooled by hyper.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body_util::combinators::BoxBody;
use hyper_util::{
    client::legacy::{
        Client as HyperClient,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::tls::Trust;

/// Body of a request.
pub(super) type Body = BoxBody<Bytes, io::Error>;
/// The pool.
pub(super) type Client = HyperClient<Connector, Body>;

/// A connection kept for the next request no longer than this.
const KEEP: Duration = Duration::from_secs(15);

pub(super) fn client(trust: Trust, limit: Duration) -> Client {
    HyperClient::builder(TokioExecutor::new())
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .pool_idle_timeout(KEEP)
        .build(Connector { trust, limit })
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    trust: Trust,
    limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { trust, limit } = self.clone();
        Box::pin(async move {
            tokio::time::timeout(limit, connect(uri, trust))
                .await
                .unwrap_or_else(|_| {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"))
                })
                .map(TokioIo::new)
        })
    }
}

/// A name that no resolver knows, or no resolver to ask.
#[derive(Debug, thiserror::Error)]
#[error("cannot look up {host}")]
pub(super) struct LookupError {
    host: String,
    #[source]
    source: io::Error,
}

async fn connect(uri: Uri, trust: Trust) -> io::Result<Stream> {
    let host = uri
        .host()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the URL has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|source| {
        let host = host.to_owned();
        io::Error::new(io::ErrorKind::HostUnreachable, LookupError { host, source })
    })?;
    let addresses: Vec<_> = addresses.collect();
    let tcp = TcpStream::connect(addresses.as_slice()).await?;
    tcp.set_nodelay(true)?;
    if !secure {
        return Ok(Stream(Box::new(tcp)));
    }
    let authority = uri.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
    let config =
        crate::blocking::blocking_io(move || trust.config(&authority).map_err(io::Error::other))
            .await?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    Ok(Stream(Box::new(tls)))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One connection.
pub(super) struct Stream(Box<dyn Io>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
