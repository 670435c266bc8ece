use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// A manager has this long to answer a connection attempt, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("{address:?} is not host:port")]
    Address {
        address: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: tonic::transport::Error,
    },
}

/// Connects to a manager at `host:port`, expecting `server_name` in its certificate.
///
/// The channel reconnects by itself when the connection breaks, with the credentials of that moment.
/// No keep-alive pings are sent: Go servers end connections that ping more often than every 5
/// minutes.
pub async fn connect(
    address: &str,
    server_name: &'static str,
    tls: Arc<ClientConfig>,
) -> Result<Channel, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| ConnectError::Address { address: address.to_owned(), source })?
        .connect_timeout(CONNECT_TIMEOUT);
    let target = address.to_owned();
    let connector = service_fn(move |_| {
        let tls = TlsConnector::from(tls.clone());
        let target = target.clone();
        async move {
            let work = async {
                let name = ServerName::try_from(server_name)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
                let stream = TcpStream::connect(&target).await?;
                stream.set_nodelay(true)?;
                tls.connect(name, stream).await.map(TokioIo::new)
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, work).await {
                Ok(done) => done,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            }
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Connect { address: address.to_owned(), source })
}
