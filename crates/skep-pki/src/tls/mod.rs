//! Server and client settings: TLS 1.2 or newer, HTTP/2 only, and no resumption, because a resumed
//! session would keep the certificates, and so the role, of the first one.

mod connection;
mod follow;
mod handle;
mod incoming;
mod strangers;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder, WantsVersions};

pub use connection::TlsConnection;
pub use handle::TlsHandle;
pub use incoming::TlsIncoming;

use crate::{CertError, TrustRoot};
use follow::AnyServer;

/// Name in the client's hello for mutual TLS with a manager.
pub const MANAGER_SERVER_NAME: &str = "swarm-manager";

/// Name in the client's hello for certificate requests and unlock keys.
pub const CA_SERVER_NAME: &str = "swarm-ca";

/// gRPC is HTTP/2, and Docker's nodes refuse a server that does not say so.
const ALPN: &[u8] = b"h2";

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Settings of a client that trusts any server and shows no certificate: to download the root, whose
/// digest is then compared with the join token.
pub fn unverified_client() -> Result<Arc<ClientConfig>, CertError> {
    let config = client()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer::new(provider())))
        .with_no_client_auth();
    Ok(finish(config))
}

/// Settings of a client that trusts one root and shows no certificate: to ask for the first one.
pub fn root_client(trust: &TrustRoot) -> Result<Arc<ClientConfig>, CertError> {
    let config = client()?.with_webpki_verifier(trust.verifier().clone()).with_no_client_auth();
    Ok(finish(config))
}

fn client() -> Result<ConfigBuilder<ClientConfig, rustls::WantsVerifier>, CertError> {
    let builder: ConfigBuilder<ClientConfig, WantsVersions> =
        ClientConfig::builder_with_provider(provider());
    builder.with_safe_default_protocol_versions().map_err(CertError::Untrusted)
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
