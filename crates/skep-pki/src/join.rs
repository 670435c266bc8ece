//! Getting certificates from a manager: the first one with a join token, later ones with the
//! certificate before.

use std::time::Duration;

use skep_proto::v1::ca_client::CaClient;
use skep_proto::v1::node_ca_client::NodeCaClient;
use skep_proto::v1::{
    GetRootCaCertificateRequest, IssueNodeCertificateRequest, NodeCertificateStatusRequest,
    issuance_status, node_spec,
};
use skep_types::{NodeAvailability, NodeId, Timestamp};
use thiserror::Error;
use tonic::transport::Channel;

use crate::connect::{ConnectError, connect};
use crate::tls::{root_client, unverified_client};
use crate::{
    CA_SERVER_NAME, CertError, Credentials, JoinToken, NodeKey, SignError, TlsHandle, TrustRoot,
    now,
};

/// Time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A manager that is just starting gets this time to answer for the first time. Whoever asked waits.
const ROOT_LIMIT: Duration = Duration::from_secs(5);
const ROOT_PAUSE: Duration = Duration::from_secs(1);

/// Pauses between questions for an issued certificate grow up to this.
const MAX_STATUS_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
pub enum JoinError {
    /// Worth another try, or another manager.
    #[error("no manager could be reached")]
    Unreachable(#[source] ConnectError),
    /// Worth another try if the code says so.
    #[error("{manager} did not answer {call}")]
    Call {
        manager: String,
        call: &'static str,
        #[source]
        source: Box<tonic::Status>,
    },
    #[error("no address of a manager was given")]
    NoManagers,
    /// The manager is of another swarm, or somebody is in between. The beginning is Docker's.
    #[error(
        "remote CA does not match fingerprint: {manager} has the root certificate {found}, but the join \
         token is for {expected}"
    )]
    Digest { manager: String, expected: String, found: String },
    /// The same request to the same manager would be refused again.
    #[error("{manager} refused {call}: {message}")]
    Refused { manager: String, call: &'static str, code: tonic::Code, message: String },
    /// Certificates have a time; that of this host and the manager's are too far apart.
    #[error(
        "a certificate of {manager} is not valid at this host's time {now}: check the clocks of both"
    )]
    Clock {
        manager: String,
        now: Timestamp,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the certificate request of node {node} failed: {reason}")]
    Failed { node: NodeId, reason: String },
    #[error("{manager} sent a certificate that cannot be used")]
    Certificate {
        manager: String,
        #[source]
        source: CertError,
    },
    #[error("{manager} sent a certificate for node {found} instead of {expected}")]
    OtherNode { manager: String, expected: NodeId, found: NodeId },
    #[error("cannot make a certificate request")]
    Request(#[source] SignError),
    #[error("cannot prepare TLS")]
    Tls(#[source] CertError),
}

/// Downloads the root from the first manager that answers. Each is tried at least once, and all again
/// until 5 s have passed.
///
/// With a token the digest of the answer must be the token's; without one the answer is trusted.
pub async fn download_root(
    managers: &[String],
    token: Option<&JoinToken>,
) -> Result<TrustRoot, JoinError> {
    let mut last = JoinError::NoManagers;
    let start = tokio::time::Instant::now();
    for (attempt, manager) in managers.iter().cycle().enumerate() {
        if attempt >= managers.len() {
            if start.elapsed() + ROOT_PAUSE > ROOT_LIMIT {
                break;
            }
            tokio::time::sleep(ROOT_PAUSE).await;
        }
        match download_root_once(manager, token).await {
            Err(error @ (JoinError::Unreachable(_) | JoinError::Call { .. })) => {
                tracing::debug!(%manager, error = &error as &dyn std::error::Error, "cannot download the root certificate");
                last = error;
            }
            done => return done,
        }
    }
    Err(last)
}

async fn download_root_once(
    manager: &str,
    token: Option<&JoinToken>,
) -> Result<TrustRoot, JoinError> {
    let tls = unverified_client().map_err(JoinError::Tls)?;
    let channel =
        connect(manager, CA_SERVER_NAME, tls).await.map_err(|error| unreachable(manager, error))?;
    let answer = timed(
        manager,
        "GetRootCACertificate",
        CaClient::new(channel).get_root_ca_certificate(GetRootCaCertificateRequest {}),
    )
    .await?;
    if let Some(token) = token {
        let found = crate::root_digest(&answer.certificate);
        if found != token.digest() {
            let expected = token.digest().to_owned();
            return Err(JoinError::Digest { manager: manager.to_owned(), expected, found });
        }
    }
    TrustRoot::from_pem(&answer.certificate, now()).map_err(|error| unusable(manager, error))
}

/// Joins a swarm: downloads its root, asks for a certificate and waits until it is issued.
///
/// Tries each manager once after the root is there. Waits as long as a manager needs to sign; drop
/// the future to give up.
pub async fn join(
    managers: &[String],
    token: &JoinToken,
    availability: NodeAvailability,
) -> Result<Credentials, JoinError> {
    let trust = download_root(managers, Some(token)).await?;
    let mut last = JoinError::NoManagers;
    for manager in managers {
        let tls = root_client(&trust).map_err(JoinError::Tls)?;
        let channel = match connect(manager, CA_SERVER_NAME, tls).await {
            Ok(channel) => channel,
            Err(error) => {
                last = unreachable(manager, error);
                continue;
            }
        };
        let asked = IssueNodeCertificateRequest {
            token: token.to_string(),
            availability: node_spec::Availability::from(availability).into(),
            ..Default::default()
        };
        match obtain(manager, channel, asked, trust.clone()).await {
            Err(error @ (JoinError::Call { .. } | JoinError::Unreachable(_))) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// Gets a new key and certificate for a node that has one, in the role the manager wants it to have.
///
/// Does not replace the handle's credentials: store the answer first.
pub async fn renew(managers: &[String], tls: &TlsHandle) -> Result<Credentials, JoinError> {
    let mut last = JoinError::NoManagers;
    for manager in managers {
        let config = tls.client_config().map_err(JoinError::Tls)?;
        let channel = match connect(manager, CA_SERVER_NAME, config).await {
            Ok(channel) => channel,
            Err(error) => {
                last = unreachable(manager, error);
                continue;
            }
        };
        match renew_over(manager, channel, tls).await {
            Err(error @ (JoinError::Call { .. } | JoinError::Unreachable(_))) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// [`renew`] over a connection that is already there; `manager` names it in errors.
pub async fn renew_over(
    manager: &str,
    channel: Channel,
    tls: &TlsHandle,
) -> Result<Credentials, JoinError> {
    let current = tls.current();
    let asked = IssueNodeCertificateRequest::default();
    let credentials = obtain(manager, channel, asked, current.trust().clone()).await?;
    let (expected, found) = (&current.identity().node_id, &credentials.identity().node_id);
    if expected != found {
        return Err(JoinError::OtherNode {
            manager: manager.to_owned(),
            expected: expected.clone(),
            found: found.clone(),
        });
    }
    Ok(credentials)
}

/// Sends a certificate request and waits for the certificate.
async fn obtain(
    manager: &str,
    channel: Channel,
    mut asked: IssueNodeCertificateRequest,
    trust: TrustRoot,
) -> Result<Credentials, JoinError> {
    let key = NodeKey::generate().map_err(JoinError::Request)?;
    let request = key.request_pem().map_err(JoinError::Request)?.into_bytes();
    asked.csr.clone_from(&request);
    let mut client = NodeCaClient::new(channel);
    let issued =
        timed(manager, "IssueNodeCertificate", client.issue_node_certificate(asked)).await?;
    let certificate = wait_issued(manager, &mut client, &issued.node_id, &request).await?;
    Credentials::new(trust, &certificate, key.to_pem().as_bytes(), now())
        .map_err(|error| unusable(manager, error))
}

/// A certificate that cannot be used, sorted out by whether the clock is to blame.
fn unusable(manager: &str, error: CertError) -> JoinError {
    let manager = manager.to_owned();
    if is_out_of_date(&error) {
        return JoinError::Clock { manager, now: now(), source: error.into() };
    }
    JoinError::Certificate { manager, source: error }
}

/// A connection that failed, sorted out by whether the clock is to blame.
fn unreachable(manager: &str, error: ConnectError) -> JoinError {
    if is_out_of_date(&error) {
        return JoinError::Clock { manager: manager.to_owned(), now: now(), source: error.into() };
    }
    JoinError::Unreachable(error)
}

/// Whether an error comes from a certificate that is not valid yet or any more.
fn is_out_of_date(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let mut next = Some(error);
    while let Some(error) = next {
        // The error inside of one of the kind `io::Error` is not among its causes.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref());
        if matches!(error.downcast_ref(), Some(CertError::OutOfDate { .. })) {
            return true;
        }
        if let Some(rustls::Error::InvalidCertificate(invalid)) = tls {
            return matches!(
                invalid,
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
            );
        }
        next = error.source();
    }
    false
}

/// Asks for the certificate until it is issued for exactly this request.
async fn wait_issued(
    manager: &str,
    client: &mut NodeCaClient<Channel>,
    node_id: &str,
    request: &[u8],
) -> Result<Vec<u8>, JoinError> {
    use issuance_status::State;
    let mut pause = Duration::from_secs(1);
    loop {
        let question = NodeCertificateStatusRequest { node_id: node_id.to_owned() };
        let answer =
            timed(manager, "NodeCertificateStatus", client.node_certificate_status(question)).await;
        match answer {
            Ok(answer) => {
                let status = answer.status.unwrap_or_default();
                let certificate = answer.certificate.unwrap_or_default();
                match State::try_from(status.state) {
                    Ok(State::Issued | State::Rotate) if certificate.csr == request => {
                        return Ok(certificate.certificate);
                    }
                    Ok(State::Failed) => {
                        let node = NodeId::from(node_id);
                        return Err(JoinError::Failed { node, reason: status.err });
                    }
                    // Not signed yet, or still the certificate of an earlier request.
                    _ => {}
                }
            }
            // The manager holds the call open until the certificate is there.
            Err(JoinError::Call { source, .. })
                if source.code() == tonic::Code::DeadlineExceeded => {}
            Err(error) => return Err(error),
        }
        tracing::debug!(manager, node_id, "waiting for the certificate");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_STATUS_PAUSE);
    }
}

/// One call with its time limit; errors are sorted into those worth a retry and refusals.
async fn timed<T>(
    manager: &str,
    call: &'static str,
    work: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, JoinError> {
    use tonic::Code;
    let status = match tokio::time::timeout(CALL_TIMEOUT, work).await {
        Ok(Ok(answer)) => return Ok(answer.into_inner()),
        Ok(Err(status)) => status,
        Err(_) => tonic::Status::deadline_exceeded("no answer in time"),
    };
    let manager = manager.to_owned();
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::Unimplemented => {
            let message = status.message().to_owned();
            Err(JoinError::Refused { manager, call, code: status.code(), message })
        }
        _ => Err(JoinError::Call { manager, call, source: Box::new(status) }),
    }
}
