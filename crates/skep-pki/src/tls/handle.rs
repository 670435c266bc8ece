use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use super::follow::{Current, FollowClients, FollowKey, FollowServers};
use super::{ALPN, client, finish, provider};
use crate::{CertError, Credentials};

/// The credentials a node uses now.
///
/// Clones share them. Settings given out once follow every later [`TlsHandle::replace`]: new
/// connections use the new certificate and root, open ones stay as they are.
#[derive(Clone, Debug)]
pub struct TlsHandle {
    current: Arc<watch::Sender<Arc<Credentials>>>,
    refused: Arc<AtomicU64>,
}

impl TlsHandle {
    pub fn new(credentials: Credentials) -> Self {
        let current = Arc::new(watch::Sender::new(Arc::new(credentials)));
        Self { current, refused: Arc::default() }
    }

    pub fn current(&self) -> Arc<Credentials> {
        self.current.borrow().clone()
    }

    /// Makes these the current ones and wakes everybody who watches.
    pub fn replace(&self, credentials: Credentials) {
        self.current.send_replace(Arc::new(credentials));
    }

    /// Sees the current credentials and every replacement.
    pub fn watch(&self) -> watch::Receiver<Arc<Credentials>> {
        self.current.subscribe()
    }

    /// How many that came to this node's ports did not get through the handshake: strangers, scanners and
    /// nodes whose certificates do not hold.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Settings of a manager's port: a client certificate is asked for, checked against the root if
    /// one comes, and not required; each call decides for itself.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertError> {
        let current = Current::new(self.watch(), provider());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(CertError::Untrusted)?
            .with_client_cert_verifier(Arc::new(FollowClients(current.clone())))
            .with_cert_resolver(Arc::new(FollowKey(current)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Settings of a client that shows this node's certificate.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, CertError> {
        let current = Current::new(self.watch(), provider());
        let config = client()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(FollowServers(current.clone())))
            .with_client_cert_resolver(Arc::new(FollowKey(current)));
        Ok(finish(config))
    }
}
