use std::fmt;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use skep_types::{Timestamp, TlsInfo};
use x509_parser::prelude::*;

use crate::identity::Identity;
use crate::tls::provider;
use crate::{CertError, TrustRoot};

/// A node's key, its certificate chain and the root it trusts, checked against each other.
///
/// `Debug` shows the identity only.
pub struct Credentials {
    identity: Identity,
    trust: TrustRoot,
    certificate_pem: Vec<u8>,
    key_pem: Vec<u8>,
    certified: Arc<CertifiedKey>,
    client_verifier: Arc<dyn ClientCertVerifier>,
    tls_info: TlsInfo,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Credentials {
    /// From PEM: the chain is leaf first, the key PKCS#8.
    ///
    /// Fails unless at `now` the chain is in date and leads to the root, and the key is the leaf's.
    pub fn new(
        trust: TrustRoot,
        certificate_pem: &[u8],
        key_pem: &[u8],
        now: Timestamp,
    ) -> Result<Self, CertError> {
        let chain =
            CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<Vec<_>, _>>()?;
        let identity = trust.verify(&chain, now)?;
        let tls_info = tls_info(&chain, &trust)?;
        let certified = certified(chain, key_pem)?;
        let pool = Arc::new(trust.pool()?);
        let client_verifier = WebPkiClientVerifier::builder_with_provider(pool, provider())
            .allow_unauthenticated()
            .build()
            .map_err(CertError::Verifier)?;
        Ok(Self {
            identity,
            trust,
            certificate_pem: certificate_pem.to_vec(),
            key_pem: key_pem.to_vec(),
            certified: Arc::new(certified),
            client_verifier,
            tls_info,
        })
    }

    /// The same key and chain under another root, as when a rotation of the root is finished.
    pub fn with_trust(&self, trust: TrustRoot, now: Timestamp) -> Result<Self, CertError> {
        Self::new(trust, &self.certificate_pem, &self.key_pem, now)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn trust(&self) -> &TrustRoot {
        &self.trust
    }

    /// PEM, leaf first.
    pub fn certificate_pem(&self) -> &[u8] {
        &self.certificate_pem
    }

    /// PKCS#8 in PEM.
    pub fn key_pem(&self) -> &[u8] {
        &self.key_pem
    }

    /// What the node tells managers about its root and issuer; a rotation of the root waits for it.
    pub fn tls_info(&self) -> &TlsInfo {
        &self.tls_info
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    pub(crate) fn client_verifier(&self) -> &Arc<dyn ClientCertVerifier> {
        &self.client_verifier
    }
}

/// A chain with the key of its leaf.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key_pem: &[u8],
) -> Result<CertifiedKey, CertError> {
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| CertError::Key(Box::new(e)))?;
    let signing =
        provider().key_provider.load_private_key(key).map_err(|e| CertError::Key(Box::new(e)))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| CertError::KeyMismatch)?;
    Ok(certified)
}

/// Whether the key is that of the chain's leaf, in date or not.
pub(crate) fn belong_together(certificate_pem: &[u8], key_pem: &[u8]) -> Result<bool, CertError> {
    let chain = CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<Vec<_>, _>>()?;
    match certified(chain, key_pem) {
        Ok(_) => Ok(true),
        Err(CertError::KeyMismatch) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What nodes say of themselves that trust `root_pem` and have a certificate of the (first) issuer in
/// `issuer_pem`.
pub fn issuer_info(root_pem: &[u8], issuer_pem: &[u8]) -> Result<TlsInfo, CertError> {
    let issuer = CertificateDer::from_pem_slice(issuer_pem)?;
    let (_, issuer) = X509Certificate::from_der(&issuer)?;
    Ok(TlsInfo {
        trust_root: String::from_utf8_lossy(root_pem).into_owned(),
        cert_issuer_subject: issuer.subject().as_raw().to_vec().into(),
        cert_issuer_public_key: issuer.public_key().raw.to_vec().into(),
    })
}

/// Subject and key of the certificate that signed the leaf: the next one in the chain, or a root.
fn tls_info(chain: &[CertificateDer<'_>], trust: &TrustRoot) -> Result<TlsInfo, CertError> {
    let leaf = chain.first().ok_or(CertError::Empty)?;
    let (_, leaf) = X509Certificate::from_der(leaf)?;
    let candidates = chain.iter().skip(1).chain(trust.certificates());
    for candidate in candidates {
        let (_, issuer) = X509Certificate::from_der(candidate)?;
        if leaf.verify_signature(Some(issuer.public_key())).is_ok() {
            return Ok(TlsInfo {
                trust_root: String::from_utf8_lossy(trust.pem()).into_owned(),
                cert_issuer_subject: issuer.subject().as_raw().to_vec().into(),
                cert_issuer_public_key: issuer.public_key().raw.to_vec().into(),
            });
        }
    }
    Err(CertError::Untrusted(rustls::Error::InvalidCertificate(
        rustls::CertificateError::UnknownIssuer,
    )))
}
