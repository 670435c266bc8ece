use std::net::SocketAddr;
use std::path::PathBuf;

use skep_types::ErrorKind;
use thiserror::Error;

use crate::address::AddressError;

/// Why a manager refuses a network attachment. Asking again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentRefusal {
    /// No such network, or no such attachment any more.
    NotFound,
    /// The network is not attachable, or the attachment is another node's.
    PermissionDenied,
    InvalidArgument,
}

/// Why a change of membership did not happen. Texts are Docker's where it has one.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and \
         join another one."
    )]
    AlreadyInSwarm,
    #[error("This node is not part of a swarm")]
    NotInSwarm,
    #[error(transparent)]
    NotManager(#[from] NotManager),
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A value of the request is wrong; the text names it.
    #[error("{0}")]
    Invalid(String),
    /// The state file, which is the first to be written and the last to be removed, is gone.
    #[error(
        "{} is missing, but {} is there: restore it, or give the membership up with \"docker swarm leave --force\"",
        path.display(),
        rest.display()
    )]
    StateMissing { path: PathBuf, rest: PathBuf },
    /// Leaving would lose what other nodes or the user rely on; `--force` overrides.
    #[error("{0}")]
    LeaveNeedsForce(String),
    /// A manager will not give a container a place on a network, or take one back; the text is its.
    #[error("{text}")]
    Attachment { refusal: AttachmentRefusal, text: String },
    #[error("swarm join as manager is not supported yet: join with a worker token")]
    ManagerJoin,
    /// The manager could not be reached or refused; the text is the remote's.
    #[error("{0}")]
    Join(String),
    #[error(
        "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the \"docker info\" command to see the current swarm status of your node."
    )]
    JoinTimeout,
    #[error("Swarm is not locked, no unlock key needed")]
    NotLocked,
    #[error("swarm could not be unlocked: invalid key provided")]
    WrongUnlockKey,
    /// Another process, or another service of this host, has the port.
    #[error("cannot listen on {addr} for the swarm's remote API")]
    Bind {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {action} {}", path.display())]
    Disk {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {action}")]
    Internal {
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl NodeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyInSwarm
            | Self::NotInSwarm
            | Self::NotManager(_)
            | Self::LeaveNeedsForce(_) => ErrorKind::Unavailable,
            Self::Address(_)
            | Self::Invalid(_)
            | Self::Attachment { .. }
            | Self::NotLocked
            | Self::WrongUnlockKey => ErrorKind::InvalidParameter,
            Self::ManagerJoin => ErrorKind::NotImplemented,
            Self::Join(_) | Self::JoinTimeout => ErrorKind::Unavailable,
            Self::Bind { .. }
            | Self::Disk { .. }
            | Self::StateMissing { .. }
            | Self::Internal { .. } => ErrorKind::System,
        }
    }
}

/// This host's control API cannot be used; 503. The text is Docker's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotManager {
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
         connect this node to swarm and try again."
    )]
    Inactive,
    #[error(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster \
         state. Please run this command on a manager node or promote the current node to a manager."
    )]
    Worker,
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker \
         swarm unlock\" to unlock it."
    )]
    Locked,
    /// A manager that is starting, or has lost its leader.
    #[error(
        "The swarm does not have a leader. It's possible that too few managers are online. Make \
         sure more than half of the managers are online."
    )]
    NoLeader,
    /// A member that could not be started, or whose manager has ended, with the reason.
    #[error("This node's part in the swarm cannot be started or has failed: {0}")]
    Failed(String),
}
