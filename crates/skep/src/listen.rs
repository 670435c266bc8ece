//! The sockets of the Engine API.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use skep_api::Listener;

use crate::config::{ListenAddress, Settings, TlsFiles};

/// Binds every address of the settings; connections wait in the kernel until the API serves them.
pub async fn bind(settings: &Settings) -> Result<Vec<Listener>> {
    let tls = settings.tls.as_ref().map(server_config).transpose()?;
    let mut listeners = Vec::new();
    for host in &settings.hosts {
        match host {
            ListenAddress::Unix(path) => listeners.push(Listener::unix(path)?),
            ListenAddress::Tcp(address) => listeners.push(match &tls {
                Some(tls) => Listener::tls(*address, Arc::clone(tls)).await?,
                None => Listener::tcp(*address).await?,
            }),
            ListenAddress::Activated => listeners.extend(activated()?),
        }
    }
    Ok(listeners)
}

/// The unix sockets that systemd hands over.
fn activated() -> Result<Vec<Listener>> {
    let mut descriptors = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..descriptors.len() {
        let socket = descriptors
            .take_unix_listener(index)
            .context("take over the service manager's socket")?;
        if let Some(socket) = socket {
            listeners.push(Listener::inherited(socket)?);
        }
    }
    if listeners.is_empty() {
        bail!("fd:// was asked for, and the service manager handed over no socket");
    }
    Ok(listeners)
}

fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).with_context(|| format!("use {}", files.ca.display()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .with_context(|| format!("use {}", files.ca.display()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("read the private key {}", files.key.display()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&files.cert)?, key)
        .with_context(|| format!("use {} with {}", files.cert.display(), files.key.display()))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .with_context(|| format!("read the certificates {}", path.display()))?
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("read the certificates {}", path.display()))
}
