use std::fmt;

use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use skep_types::{ClusterId, Nanos, NodeId, NodeRole, Timestamp};
use thiserror::Error;
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::*;

use crate::identity::unit_of;
use crate::{CA_SERVER_NAME, CertError};

pub use skep_types::defaults::NODE_CERT_EXPIRY as DEFAULT_NODE_EXPIRY;

/// Shorter settings fall back to [`DEFAULT_NODE_EXPIRY`].
pub const MIN_NODE_EXPIRY: Nanos = Nanos::from_secs(3600);

/// Clocks of nodes may be behind the signer's by this much.
const NODE_BACKDATE: Nanos = Nanos::from_secs(3600);

const ROOT_BACKDATE: Nanos = Nanos::from_secs(5 * 60);

/// 20 years.
const ROOT_VALIDITY: Nanos = Nanos::from_secs(630_720_000);

/// Longest request that is looked at, bytes of PEM: one of an RSA key of 16384 bits has about 6,000.
const MAX_REQUEST: usize = 16 << 10;

const ROOT_NAME: &str = "swarm-ca";

#[derive(Debug, Error)]
pub enum SignError {
    #[error("cannot generate a key")]
    Generate(#[source] rcgen::Error),
    #[error("cannot write a certificate request")]
    Request(#[source] rcgen::Error),
    #[error("cannot read the signing certificate")]
    Issuer(#[source] CertError),
    #[error("cannot use the signing certificate")]
    IssuerParts(#[source] rcgen::Error),
    #[error("cannot read the signing key")]
    IssuerKey(#[source] rcgen::Error),
    #[error("the signing key does not belong to the signing certificate")]
    IssuerMismatch,
    #[error("the certificate request is longer than {MAX_REQUEST} bytes")]
    RequestLong,
    #[error("the certificate request is not PEM")]
    RequestPem(#[source] rustls_pki_types::pem::Error),
    #[error("the certificate request is malformed or not signed by its own key")]
    RequestParse,
    #[error("the key in the certificate request is of an unsupported kind")]
    RequestKey(#[source] rcgen::Error),
    #[error("{text:?} cannot be part of a certificate's subject")]
    Subject { text: String },
    #[error("cannot sign")]
    Sign(#[source] rcgen::Error),
}

/// A root made for a new swarm. `Debug` hides the key.
#[derive(Clone, PartialEq, Eq)]
pub struct NewRoot {
    pub certificate_pem: String,
    /// PKCS#8.
    pub key_pem: String,
}

impl fmt::Debug for NewRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRoot").field("certificate_pem", &self.certificate_pem).finish()
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSubject {
    pub node_id: NodeId,
    pub role: NodeRole,
    pub cluster_id: ClusterId,
}

/// Signs node certificates for a root.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// Follows each leaf, so that nodes which only trust the old root can verify it. PEM or empty.
    intermediate: Vec<u8>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

/// Makes a root: common name `swarm-ca`, ECDSA P-256, valid for 20 years.
pub fn create_root(now: Timestamp) -> Result<NewRoot, SignError> {
    let key = KeyPair::generate().map_err(SignError::Generate)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(&[(DnType::CommonName, ROOT_NAME)])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(random_serial());
    let not_before = now + Nanos(-ROOT_BACKDATE.0);
    params.not_before = not_before.datetime();
    params.not_after = (not_before + ROOT_VALIDITY).datetime();
    let certificate = params.self_signed(&key).map_err(SignError::Sign)?;
    Ok(NewRoot { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

impl Signer {
    /// From a root certificate and its key, both in PEM; the first certificate of a bundle counts.
    pub fn from_pem(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, SignError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem)
            .map_err(|e| SignError::Issuer(e.into()))?;
        let (_, x509) = X509Certificate::from_der(&certificate)
            .map_err(|e| SignError::Issuer(CertError::from(e)))?;
        let key_text = String::from_utf8_lossy(key_pem);
        let key = KeyPair::from_pem(&key_text).map_err(SignError::IssuerKey)?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != x509.public_key().raw {
            return Err(SignError::IssuerMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(SignError::IssuerParts)?;
        Ok(Self { issuer, intermediate: Vec::new() })
    }

    /// The same signer, handing out this certificate in PEM after each leaf.
    pub fn with_intermediate(mut self, pem: &[u8]) -> Self {
        self.intermediate = pem.to_vec();
        self
    }

    /// Signs the key in a certificate request for a node. Nothing else in the request counts.
    ///
    /// Returns PEM: the leaf, then the intermediate if there is one. An `expiry` below
    /// [`MIN_NODE_EXPIRY`] is taken as [`DEFAULT_NODE_EXPIRY`].
    pub fn sign(
        &self,
        request_pem: &[u8],
        node: &NodeSubject,
        expiry: Nanos,
        now: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let key = requested_key(request_pem)?;
        let unit = unit_of(node.role);
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&[
            (DnType::CommonName, node.node_id.as_str()),
            (DnType::OrganizationalUnitName, unit),
            (DnType::OrganizationName, node.cluster_id.as_str()),
        ])?;
        let mut names = vec![unit, node.node_id.as_str()];
        if node.role == NodeRole::Manager {
            names.push(CA_SERVER_NAME);
        }
        params.subject_alt_names = names
            .into_iter()
            .map(|name| Ok(SanType::DnsName(name.try_into().map_err(|_| bad_subject(name))?)))
            .collect::<Result<_, SignError>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(random_serial());
        let expiry = if expiry < MIN_NODE_EXPIRY { DEFAULT_NODE_EXPIRY } else { expiry };
        let minute = Timestamp::from_unix((now.unix_secs() + 30).div_euclid(60) * 60, 0);
        params.not_before = (minute.unwrap_or(now) + Nanos(-NODE_BACKDATE.0)).datetime();
        params.not_after = (now + expiry).datetime();
        let leaf = params.signed_by(&key, &self.issuer).map_err(SignError::Sign)?;
        let mut pem = leaf.pem().into_bytes();
        pem.extend_from_slice(&self.intermediate);
        Ok(pem)
    }

    /// Signs another root's certificate with this root's key, so that nodes which trust this root
    /// accept what the other one signs: same subject, key, validity and serial number, and no
    /// authority key identifier. Returns PEM.
    pub fn cross_sign(&self, root_pem: &[u8]) -> Result<Vec<u8>, SignError> {
        let der =
            CertificateDer::from_pem_slice(root_pem).map_err(|e| SignError::Issuer(e.into()))?;
        let (_, x509) =
            X509Certificate::from_der(&der).map_err(|e| SignError::Issuer(CertError::from(e)))?;
        let key = SubjectPublicKeyInfo::from_der(x509.public_key().raw)
            .map_err(SignError::IssuerParts)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = copied_subject(x509.subject())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(x509.raw_serial()));
        params.not_before = x509.validity().not_before.to_datetime();
        params.not_after = x509.validity().not_after.to_datetime();
        params.use_authority_key_identifier_extension = false;
        if let Some(id) = subject_key_id(&x509) {
            params.key_identifier_method = KeyIdMethod::PreSpecified(id);
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(SignError::Sign)?;
        Ok(certificate.pem().into_bytes())
    }
}

/// Whether a certificate request can be signed: one of reasonable length, well formed, signed by its own
/// key, with a key of a kind that nodes may have.
///
/// # Errors
/// [`SignError::RequestLong`], [`SignError::RequestPem`], [`SignError::RequestParse`] or
/// [`SignError::RequestKey`]: only another request helps.
pub fn check_request(request_pem: &[u8]) -> Result<(), SignError> {
    requested_key(request_pem).map(|_| ())
}

fn requested_key(request_pem: &[u8]) -> Result<SubjectPublicKeyInfo, SignError> {
    if request_pem.len() > MAX_REQUEST {
        return Err(SignError::RequestLong);
    }
    let der =
        CertificateSigningRequestDer::from_pem_slice(request_pem).map_err(SignError::RequestPem)?;
    let (_, request) =
        X509CertificationRequest::from_der(&der).map_err(|_| SignError::RequestParse)?;
    request.verify_signature().map_err(|_| SignError::RequestParse)?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(SignError::RequestKey)
}

fn bad_subject(text: &str) -> SignError {
    SignError::Subject { text: text.to_owned() }
}

fn subject(parts: &[(DnType, &str)]) -> Result<DistinguishedName, SignError> {
    let mut name = DistinguishedName::new();
    for (kind, text) in parts {
        let value = PrintableString::try_from(*text).map_err(|_| bad_subject(text))?;
        name.push(kind.clone(), DnValue::PrintableString(value));
    }
    Ok(name)
}

/// A subject with the same attributes in the same string kinds, so that its DER is the same.
fn copied_subject(name: &X509Name<'_>) -> Result<DistinguishedName, SignError> {
    let mut copy = DistinguishedName::new();
    for attribute in name.iter_attributes() {
        let text = attribute.as_str().map_err(|_| bad_subject(&name.to_string()))?;
        let oid: Vec<u64> =
            attribute.attr_type().iter().map(Iterator::collect).ok_or_else(|| bad_subject(text))?;
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => DnValue::PrintableString(
                PrintableString::try_from(text).map_err(|_| bad_subject(text))?,
            ),
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            _ => return Err(bad_subject(text)),
        };
        copy.push(DnType::from_oid(&oid), value);
    }
    Ok(copy)
}

fn subject_key_id(x509: &X509Certificate<'_>) -> Option<Vec<u8>> {
    x509.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// 20 random bytes, positive and not zero.
fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 20] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}
