//! One request to a daemon, over its unix socket or plain TCP.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where Docker's clients look when nothing is said.
const DEFAULT: &str = "/var/run/docker.sock";
/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer, a thousand tasks' worth.
const LARGEST: usize = 64 << 20;

/// Where the daemon listens.
#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    Tcp(String),
}

impl Endpoint {
    /// Reads `unix://PATH` or `tcp://HOST:PORT`, as in `DOCKER_HOST`.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self::Unix(DEFAULT.into()));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(if path.is_empty() { DEFAULT } else { path }.into()));
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            if std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|v| !v.is_empty()) {
                bail!("TLS is not spoken by this client: ask over the unix socket of the host");
            }
            let address = address.trim_end_matches('/');
            let port = if address.contains(':') { "" } else { ":2375" };
            return Ok(Self::Tcp(format!("{address}{port}")));
        }
        bail!("the daemon's address {text:?} begins with neither unix:// nor tcp://")
    }
}

/// Escapes a value of a query.
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The body of a good answer; the message of another as the error.
pub async fn get(endpoint: &Endpoint, path: &str) -> Result<Bytes> {
    let exchange = async {
        match endpoint {
            Endpoint::Unix(socket) => {
                let stream = UnixStream::connect(socket).await;
                let stream = stream.with_context(|| format!("connect to {}", socket.display()))?;
                exchange(stream, path).await
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await;
                exchange(stream.with_context(|| format!("connect to {address}"))?, path).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.context("wait for the daemon's answer")?
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<Bytes> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speak HTTP")?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header("Host", "skep")
        .body(Empty::<Bytes>::new())
        .context("make the request")?;
    let answer = sender.send_request(request).await.context("ask the daemon")?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| anyhow!("read the daemon's answer: {error}"))?.to_bytes();
    driver.abort();
    if status.is_success() {
        return Ok(body);
    }
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|v| Some(v.get("message")?.as_str()?.to_owned()));
    match message.as_deref() {
        Some("page not found") => bail!("the daemon is not skep, or too old for this"),
        Some(message) => bail!("{message}"),
        None => bail!("the daemon answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_docker_does() {
        assert_eq!(Endpoint::parse(None).unwrap(), Endpoint::Unix(DEFAULT.into()));
        assert_eq!(Endpoint::parse(Some("unix:///x")).unwrap(), Endpoint::Unix("/x".into()));
        assert_eq!(Endpoint::parse(Some("tcp://h:1/")).unwrap(), Endpoint::Tcp("h:1".into()));
        assert_eq!(Endpoint::parse(Some("tcp://h")).unwrap(), Endpoint::Tcp("h:2375".into()));
        assert!(Endpoint::parse(Some("ssh://h")).is_err());
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("web:80/udp a&b"), "web:80%2Fudp%20a%26b");
    }
}
