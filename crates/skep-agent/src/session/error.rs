use std::time::Duration;

use skep_pki::{CertError, ConnectError};
use skep_proto::says_removed;
use skep_types::NodeId;
use thiserror::Error;
use tonic::Status;

use crate::ExecError;

/// Why a session could not be had, or ended. All of them mean: pause, then try again.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    #[error("no manager is known")]
    NoManager,
    #[error("cannot describe this node")]
    Describe(#[source] ExecError),
    #[error("cannot prepare TLS")]
    Tls(#[source] CertError),
    #[error("cannot reach the manager")]
    Connect(#[source] ConnectError),
    #[error("{call} failed")]
    Call {
        call: &'static str,
        #[source]
        source: Box<Status>,
    },
    #[error("{call} was not answered within {limit:?}")]
    Timeout { call: &'static str, limit: Duration },
    #[error("the manager ended the {call} stream")]
    Ended { call: &'static str },
}

impl SessionError {
    /// A manager of this swarm, whose certificate was verified, says that this node is no part of it any
    /// more. Other refusals are no such thing.
    pub(super) fn is_expulsion(&self, node: &NodeId) -> bool {
        matches!(self, Self::Call { call: super::SESSION, source }
            if source.code() == tonic::Code::PermissionDenied
                && says_removed(source.message(), node))
    }

    /// For `map_err` on a call.
    pub(super) fn call(call: &'static str) -> impl FnOnce(Status) -> Self {
        move |source| Self::Call { call, source: Box::new(source) }
    }
}

/// Managers answer within this time, or the session is given up.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A call with its time limit.
pub(super) async fn timed<T>(
    call: &'static str,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, SessionError> {
    timed_within(CALL_TIMEOUT, call, work).await
}

/// A call with a time limit of its own.
pub(super) async fn timed_within<T>(
    limit: Duration,
    call: &'static str,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(SessionError::call(call)),
        Err(_) => Err(SessionError::Timeout { call, limit }),
    }
}
