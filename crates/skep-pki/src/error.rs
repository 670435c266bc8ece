use skep_types::Timestamp;
use thiserror::Error;

/// Certificates or keys that cannot be used.
#[derive(Debug, Error)]
pub enum CertError {
    #[error("no certificate in the PEM text")]
    Empty,
    #[error("the PEM text is malformed")]
    Pem(#[source] rustls_pki_types::pem::Error),
    #[error("the certificate is not valid X.509")]
    Parse(#[source] x509_parser::error::X509Error),
    #[error("the certificate has no {part} in its subject")]
    Subject { part: &'static str },
    #[error("{unit:?} is no swarm role: expected swarm-worker or swarm-manager")]
    Role { unit: String },
    #[error("root certificate {subject:?} is not self-signed")]
    NotSelfSigned { subject: String },
    #[error("certificate {subject:?} is only valid from {not_before} to {not_after}, now is {now}")]
    OutOfDate { subject: String, not_before: Timestamp, not_after: Timestamp, now: Timestamp },
    #[error("certificate {subject:?} has a validity outside the calendar")]
    Validity { subject: String },
    #[error("the private key is malformed or of an unsupported kind")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    #[error("the certificate does not lead to the trusted root")]
    Untrusted(#[source] rustls::Error),
    #[error("the trusted root cannot be used for verification")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

impl From<rustls_pki_types::pem::Error> for CertError {
    fn from(error: rustls_pki_types::pem::Error) -> Self {
        match error {
            rustls_pki_types::pem::Error::NoItemsFound => Self::Empty,
            other => Self::Pem(other),
        }
    }
}

impl From<x509_parser::nom::Err<x509_parser::error::X509Error>> for CertError {
    fn from(error: x509_parser::nom::Err<x509_parser::error::X509Error>) -> Self {
        match error {
            x509_parser::nom::Err::Error(e) | x509_parser::nom::Err::Failure(e) => Self::Parse(e),
            x509_parser::nom::Err::Incomplete(_) => {
                Self::Parse(x509_parser::error::X509Error::InvalidCertificate)
            }
        }
    }
}
