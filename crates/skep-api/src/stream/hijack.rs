use std::convert::Infallible;
use std::io;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use futures::TryStreamExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{ReaderStream, StreamReader};

/// Bytes under way between a process's output and a body that is not upgraded.
const BUFFER: usize = 64 << 10;

/// A client's connection once its request is answered: what it sends and what it receives.
pub(crate) struct Duplex {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Shutting it down ends what the client receives and leaves the reader open.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// The right to take over the connection a request came by.
///
/// A request with `Upgrade: tcp` is answered 101 and the connection carries raw bytes both ways from
/// then on, each way ending by itself. Without it the answer is 200 and its body is the output, while
/// the request's body is the input.
pub(crate) struct Takeover {
    upgrade: Option<OnUpgrade>,
}

impl<S: Send + Sync> FromRequestParts<S> for Takeover {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        Ok(Self { upgrade: upgrade.filter(|_| asks_for_tcp(&parts.headers)) })
    }
}

fn asks_for_tcp(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case("tcp")))
}

impl Takeover {
    /// Whether the client asked for an upgrade.
    pub fn is_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }

    /// Answers the request, and hands the connection to `serve` once the answer is on its way.
    ///
    /// `serve` runs in a task of its own. If the client leaves before it is upgraded, `serve` is
    /// dropped without being run.
    pub fn answer<F, Fut>(self, content_type: &'static str, body: Body, serve: F) -> Response
    where
        F: FnOnce(Duplex) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        match self.upgrade {
            Some(upgrade) => upgraded(upgrade, content_type, serve),
            None => plain(content_type, body, serve),
        }
    }
}

fn upgraded<F, Fut>(upgrade: OnUpgrade, content_type: &'static str, serve: F) -> Response
where
    F: FnOnce(Duplex) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(connection));
                serve(Duplex { reader: Box::new(reader), writer: Box::new(writer) }).await;
            }
            Err(error) => tracing::debug!(%error, "client left before its connection was upgraded"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    response
}

fn plain<F, Fut>(content_type: &'static str, body: Body, serve: F) -> Response
where
    F: FnOnce(Duplex) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let input = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    tokio::spawn(serve(Duplex { reader: Box::new(input), writer: Box::new(ours) }));
    let mut response =
        Response::new(Body::from_stream(ReaderStream::with_capacity(theirs, BUFFER)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
