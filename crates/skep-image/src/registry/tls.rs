//! Whom a connection trusts.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

/// Whom to trust.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// The system's roots, and those in `<dir>/<host[:port]>/*.crt`.
    Verified(Option<PathBuf>),
    /// Whoever answers: for registries configured as insecure.
    Anyone,
}

impl Trust {
    /// TLS settings for one registry. Files that cannot be read are skipped with a warning: the
    /// connection then fails with what is missing.
    pub(super) fn config(&self, authority: &str) -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let folder = match self {
            Self::Verified(Some(folder)) => Some(folder.join(authority)),
            _ => None,
        };
        let builder = match self {
            Self::Anyone => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerifier(provider)))
            }
            Self::Verified(_) => {
                let mut roots = system_roots().clone();
                for file in folder.iter().flat_map(|folder| files(folder, "crt")) {
                    add_roots(&mut roots, &file);
                }
                builder.with_root_certificates(roots)
            }
        };
        let identity =
            folder.iter().flat_map(|folder| files(folder, "cert")).find_map(|file| identity(&file));
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::warn!(%error, "cannot read some of the system's root certificates");
        }
        let (_, unusable) = roots.add_parsable_certificates(loaded.certs);
        if unusable > 0 {
            tracing::debug!(unusable, "some of the system's root certificates are unusable");
        }
        roots
    })
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    found
}

fn add_roots(roots: &mut RootCertStore, file: &Path) {
    let added = CertificateDer::pem_file_iter(file).map(|certs| certs.filter_map(Result::ok)).map(
        |certs| {
            for cert in certs {
                if let Err(error) = roots.add(cert) {
                    tracing::warn!(path = %file.display(), %error, "unusable root certificate");
                }
            }
        },
    );
    if let Err(error) = added {
        tracing::warn!(path = %file.display(), %error, "cannot read a root certificate");
    }
}

/// `x.cert` with `x.key` beside it.
fn identity(cert: &Path) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let read = || -> Result<_, rustls_pki_types::pem::Error> {
        let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
        Ok((chain, PrivateKeyDer::from_pem_file(cert.with_extension("key"))?))
    };
    read().inspect_err(|error| tracing::warn!(path = %cert.display(), %error, "cannot read a client certificate")).ok()
}

/// Checks that the other side has the key of the certificate it shows, and nothing about whose it is.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
