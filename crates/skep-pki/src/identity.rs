use rustls_pki_types::CertificateDer;
use skep_types::{ClusterId, NodeId, NodeRole, Timestamp};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use x509_parser::prelude::*;

use crate::CertError;

/// Organizational unit of workers' certificates, and a DNS name in them.
pub const WORKER_OU: &str = "swarm-worker";

/// Organizational unit of managers' certificates, and a DNS name in them.
pub const MANAGER_OU: &str = "swarm-manager";

/// Who a node certificate speaks for. Says nothing about whether to trust it: TLS has checked that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node_id: NodeId,
    pub role: NodeRole,
    pub cluster_id: ClusterId,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Identity {
    /// Reads the subject of a node certificate: common name, organizational unit, organization.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertError> {
        let (_, x509) = X509Certificate::from_der(certificate)?;
        let (not_before, not_after) = validity(&x509)?;
        let unit = first(x509.subject().iter_organizational_unit(), "organizational unit")?;
        let role = match unit {
            WORKER_OU => NodeRole::Worker,
            MANAGER_OU => NodeRole::Manager,
            other => return Err(CertError::Role { unit: other.to_owned() }),
        };
        Ok(Self {
            node_id: first(x509.subject().iter_common_name(), "common name")?.into(),
            role,
            cluster_id: first(x509.subject().iter_organization(), "organization")?.into(),
            not_before,
            not_after,
        })
    }

    pub fn is_manager(&self) -> bool {
        self.role == NodeRole::Manager
    }
}

/// The organizational unit of a role.
pub(crate) fn unit_of(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Worker => WORKER_OU,
        NodeRole::Manager => MANAGER_OU,
    }
}

/// First and last valid moment.
pub(crate) fn validity(x509: &X509Certificate<'_>) -> Result<(Timestamp, Timestamp), CertError> {
    let moment = |time: ASN1Time| {
        Timestamp::from_unix(time.timestamp(), 0)
            .ok_or_else(|| CertError::Validity { subject: x509.subject().to_string() })
    };
    Ok((moment(x509.validity().not_before)?, moment(x509.validity().not_after)?))
}

fn first<'a, 'b: 'a>(
    mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'b>>,
    part: &'static str,
) -> Result<&'a str, CertError> {
    values
        .next()
        .and_then(|value| value.as_str().ok())
        .filter(|text| !text.is_empty())
        .ok_or(CertError::Subject { part })
}

/// The identity in the certificate of a request's direct peer, `None` when it showed none.
///
/// Works for requests that came in through [`crate::TlsIncoming`].
pub fn peer_identity<T>(request: &tonic::Request<T>) -> Result<Option<Identity>, CertError> {
    connection_identity(request.extensions())
}

/// The same by what the transport noted with a request.
pub fn connection_identity(noted: &tonic::Extensions) -> Result<Option<Identity>, CertError> {
    let connection = noted.get::<TlsConnectInfo<TcpConnectInfo>>();
    let Some(chain) = connection.and_then(TlsConnectInfo::peer_certs) else { return Ok(None) };
    chain.first().map(Identity::of).transpose()
}
