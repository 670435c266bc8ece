use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::strangers::Place;

/// A connection whose handshake is done.
///
/// Who showed no certificate goes on sitting in its place among strangers, and is cut off when that is
/// needed for somebody else: reading and writing fail then.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    stranger: Option<Stranger>,
}

#[derive(Debug)]
struct Stranger {
    away: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
}

impl TlsConnection {
    pub(super) fn new(stream: TlsStream<TcpStream>, place: Place) -> Self {
        let known = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        let stranger =
            (!known).then(|| Stranger { away: Box::pin(place.sent_away()), _place: place });
        Self { stream, stranger }
    }

    /// The connection below, and what TLS knows of the other end.
    pub fn get_ref(&self) -> (&TcpStream, &ServerConnection) {
        self.stream.get_ref()
    }

    /// Fails once the place is needed for somebody else; wakes the task then.
    fn may_stay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(stranger) = &mut self.stranger else { return Ok(()) };
        match stranger.away.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "too many connections without a certificate",
            )),
        }
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// As the stream's own, so that calls see the certificates.
impl Connected for TlsConnection {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
