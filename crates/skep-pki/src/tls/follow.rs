//! Verifiers and key sources that look up the current credentials at every handshake.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;

use crate::Credentials;

#[derive(Clone, Debug)]
pub(super) struct Current {
    credentials: watch::Receiver<Arc<Credentials>>,
    provider: Arc<CryptoProvider>,
}

impl Current {
    pub(super) fn new(
        credentials: watch::Receiver<Arc<Credentials>>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { credentials, provider }
    }

    fn get(&self) -> Arc<Credentials> {
        self.credentials.borrow().clone()
    }
}

/// Signature checks do not depend on the root, only on the algorithms.
macro_rules! signatures {
    ($($path:tt)+) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.$($path)+.signature_verification_algorithms;
            verify_tls12_signature(message, cert, dss, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.$($path)+.signature_verification_algorithms;
            verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$($path)+.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// The node's own key and chain, for servers and clients.
#[derive(Debug)]
pub(super) struct FollowKey(pub(super) Current);

impl ResolvesServerCert for FollowKey {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get().certified())
    }
}

impl ResolvesClientCert for FollowKey {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get().certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Checks servers against the current root.
#[derive(Debug)]
pub(super) struct FollowServers(pub(super) Current);

impl ServerCertVerifier for FollowServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.get().trust().verifier().verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    signatures!(0.provider);
}

/// Checks clients against the current root; a client may come without a certificate.
#[derive(Debug)]
pub(super) struct FollowClients(pub(super) Current);

impl ClientCertVerifier for FollowClients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: they would have to outlive a change of the root, and nodes have one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.get().client_verifier().verify_client_cert(end_entity, intermediates, now)
    }

    signatures!(0.provider);
}

/// Accepts every server that holds the key of the certificate it shows.
#[derive(Debug)]
pub(super) struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl AnyServer {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!(provider);
}
