use std::error::Error;
use std::fmt;
use std::time::Duration;

use skep_pki::{CertError, ConnectError};
use skep_proto::says_removed;
use skep_types::NodeId;
use thiserror::Error;
use tonic::{Code, Status};

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
        source: Answer,
    },
    #[error("{call} was not answered within {limit:?}")]
    Timeout { call: &'static str, limit: Duration },
    #[error("the manager ended the {call} stream")]
    Ended { call: &'static str },
}

/// A status as people read it: what the manager says, or where it says nothing, what its code means.
#[derive(Debug)]
pub(super) struct Answer(Box<Status>);

impl Answer {
    pub(super) fn code(&self) -> Code {
        self.0.code()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.message() {
            "" => f.write_str(self.0.code().description()),
            message => f.write_str(message),
        }
    }
}

impl Error for Answer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl SessionError {
    /// A manager of this swarm, whose certificate was verified, says that this node is no part of it any
    /// more. Other refusals are no such thing.
    pub(super) fn is_expulsion(&self, node: &NodeId) -> bool {
        matches!(self, Self::Call { call: super::SESSION, source }
            if source.code() == Code::PermissionDenied
                && says_removed(source.0.message(), node))
    }

    /// For `map_err` on a call.
    pub(super) fn call(call: &'static str) -> impl FnOnce(Status) -> Self {
        move |source| Self::Call { call, source: Answer(Box::new(source)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_managers_words() {
        for (status, text) in [
            (
                Status::permission_denied("node abc was removed from the swarm"),
                "Session failed: node abc was removed from the swarm",
            ),
            (
                Status::new(Code::Unavailable, ""),
                "Session failed: The service is currently unavailable",
            ),
        ] {
            assert_eq!(
                skep_types::report(&SessionError::call(super::super::SESSION)(status)),
                text
            );
        }
    }
}
