use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use skep_types::Timestamp;
use x509_parser::prelude::*;

use crate::identity::{Identity, unit_of, validity};
use crate::tls::provider;
use crate::{CertError, root_digest};

/// The certificates that a node trusts, with the exact PEM bytes they came in.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    pem: Arc<[u8]>,
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl PartialEq for TrustRoot {
    /// The same bytes: a join token's digest tells other bytes apart too.
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for TrustRoot {}

impl TrustRoot {
    /// Reads a bundle, in which every certificate must be self-signed and valid at `now`.
    pub fn from_pem(pem: &[u8], now: Timestamp) -> Result<Self, CertError> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(CertError::Empty);
        }
        let mut pool = RootCertStore::empty();
        for certificate in &certificates {
            check_root(certificate, now)?;
            pool.add(certificate.clone()).map_err(CertError::Untrusted)?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(pool), provider())
            .build()
            .map_err(CertError::Verifier)?;
        Ok(Self { pem: pem.into(), certificates, verifier })
    }

    /// The bytes given to [`TrustRoot::from_pem`].
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// What a join token must carry.
    pub fn digest(&self) -> String {
        root_digest(&self.pem)
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(crate) fn verifier(&self) -> &Arc<WebPkiServerVerifier> {
        &self.verifier
    }

    /// The certificates as trust anchors.
    pub(crate) fn pool(&self) -> Result<RootCertStore, CertError> {
        let mut pool = RootCertStore::empty();
        for certificate in &self.certificates {
            pool.add(certificate.clone()).map_err(CertError::Untrusted)?;
        }
        Ok(pool)
    }

    /// Checks a chain, leaf first: in date at `now`, in order, and leading to this root.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Identity, CertError> {
        let (leaf, intermediates) = chain.split_first().ok_or(CertError::Empty)?;
        for certificate in chain {
            let (_, x509) = X509Certificate::from_der(certificate)?;
            check_date(&x509, now)?;
        }
        let identity = Identity::of(leaf)?;
        // Every node certificate carries its role as a DNS name.
        let name = ServerName::try_from(unit_of(identity.role))
            .map_err(|_| CertError::Subject { part: "organizational unit" })?;
        let secs = u64::try_from(now.unix_secs()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        self.verifier
            .verify_server_cert(leaf, intermediates, &name, &[], now)
            .map_err(CertError::Untrusted)?;
        Ok(identity)
    }
}

fn check_date(x509: &X509Certificate<'_>, now: Timestamp) -> Result<(), CertError> {
    let (not_before, not_after) = validity(x509)?;
    if now < not_before || now > not_after {
        let subject = x509.subject().to_string();
        return Err(CertError::OutOfDate { subject, not_before, not_after, now });
    }
    Ok(())
}

fn check_root(certificate: &CertificateDer<'_>, now: Timestamp) -> Result<(), CertError> {
    let (_, x509) = X509Certificate::from_der(certificate)?;
    check_date(&x509, now)?;
    if x509.subject().as_raw() != x509.issuer().as_raw() || x509.verify_signature(None).is_err() {
        return Err(CertError::NotSelfSigned { subject: x509.subject().to_string() });
    }
    Ok(())
}
