//! Why a registry operation failed.

use std::io;

use crate::{digest::Digest, manifest::ManifestError, space::NoSpace};
use skep_types::{ErrorKind, report};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a registry operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A mirror or insecure registry that cannot be used.
    #[error("invalid registry setting {value:?}: {reason}")]
    Setting {
        /// As configured.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// No connection, or it broke before an answer.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Cause.
        #[source]
        source: Cause,
    },
    /// No answer in time.
    #[error("no answer from {0} in time")]
    Timeout(String),
    /// The connection broke within an answer.
    #[error("the answer from {url} broke off")]
    Broken {
        /// What was asked for.
        url: String,
        /// Cause.
        #[source]
        source: Cause,
    },
    /// An answer that says no.
    #[error("{url} answered {status}: {message}")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// The registry's words.
        message: String,
    },
    /// There is no such tag or digest.
    #[error("manifest for {reference} not found: manifest unknown: {message}")]
    NoManifest {
        /// Familiar name.
        reference: String,
        /// The registry's words.
        message: String,
    },
    /// The repository does not exist, or not for this caller.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {message}"
    )]
    PullDenied {
        /// Familiar name.
        repository: String,
        /// The registry's words.
        message: String,
    },
    /// Pushing is not allowed.
    #[error("denied: {message}")]
    PushDenied {
        /// The registry's words.
        message: String,
    },
    /// Wrong name or password.
    #[error("unauthorized: {message}")]
    Unauthorized {
        /// The registry's words.
        message: String,
    },
    /// Credentials would travel in the clear.
    #[error("refusing to send credentials to {0}, which is not encrypted")]
    Plain(String),
    /// No image of that name to push.
    #[error("An image does not exist locally with the tag: {0}")]
    NotLocal(String),
    /// An answer that makes no sense.
    #[error("unexpected answer from {url}: {reason}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// An answer larger than allowed.
    #[error("{url} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// Limit in bytes.
        limit: u64,
    },
    /// Content of another size than announced.
    #[error("{what} has {actual} bytes instead of {expected}")]
    Size {
        /// What content.
        what: String,
        /// Announced size in bytes.
        expected: u64,
        /// Bytes received.
        actual: u64,
    },
    /// Content with another digest than asked for.
    #[error("{what} verification failed: it has the digest {actual} instead of {expected}")]
    Digest {
        /// What content.
        what: String,
        /// Digest asked for.
        expected: Digest,
        /// Digest of what came.
        actual: Digest,
    },
    /// A manifest that cannot be used.
    #[error("cannot use the manifest of {reference}")]
    Manifest {
        /// Familiar name.
        reference: String,
        /// Cause.
        #[source]
        source: ManifestError,
    },
    /// The configuration is no image configuration.
    #[error("the image configuration of {reference} is malformed")]
    Config {
        /// Familiar name.
        reference: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// Manifest and configuration disagree.
    #[error("layers from manifest don't match image configuration")]
    LayerMismatch,
    /// Nothing for this platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// The disk would be full.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// A scratch file could not be written or read.
    #[error("cannot store what was downloaded")]
    Scratch(#[source] io::Error),
}

impl RegistryError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoManifest { .. }
            | Self::PullDenied { .. }
            | Self::NoPlatform(_)
            | Self::NotLocal(_) => ErrorKind::NotFound,
            Self::Setting { .. } => ErrorKind::InvalidParameter,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::PushDenied { .. } | Self::Plain(_) => ErrorKind::Forbidden,
            Self::Unreachable { .. } | Self::Timeout(_) | Self::Broken { .. } => {
                ErrorKind::Unavailable
            }
            Self::Status { status: 429 | 500.., .. } => ErrorKind::Unavailable,
            _ => ErrorKind::System,
        }
    }

    /// Trying again may help.
    pub(super) fn is_passing(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    /// How often to try in a row: where nobody answers, one more try after the first pause is enough.
    pub(super) fn attempts(&self, configured: u32) -> u32 {
        match self {
            Self::Unreachable { source, .. }
                if source.downcast_ref::<ConnectError>().is_some_and(ConnectError::is_nobody) =>
            {
                configured.min(2)
            }
            _ => configured,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct ConnectError {
    text: String,
    kind: io::ErrorKind,
}

impl ConnectError {
    pub(super) fn new(error: &io::Error) -> Self {
        Self { text: report(error), kind: error.kind() }
    }

    /// Nobody is there to be overloaded or slow: the name or address is wrong, or the service is
    /// down. Waiting long does not help.
    pub(super) fn is_nobody(&self) -> bool {
        matches!(
            self.kind,
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
        )
    }
}

/// Of the failures of several ways to one registry, the one that says most: the first answer, else
/// the first failure to get one.
pub(super) fn telling(first: Option<RegistryError>, next: RegistryError) -> Option<RegistryError> {
    match first {
        None | Some(RegistryError::Unreachable { .. })
            if !matches!(next, RegistryError::Unreachable { .. }) =>
        {
            Some(next)
        }
        None => Some(next),
        known => known,
    }
}

/// Every registry has at least one place to try, unless its name is no host.
pub(super) fn no_place(name: &str) -> RegistryError {
    RegistryError::Protocol { url: name.into(), reason: "there is nowhere to look for it".into() }
}
