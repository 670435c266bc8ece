//! What can go wrong, in Docker's words, sorted so that the door can choose a status code.

use std::io;
use std::path::PathBuf;

use skep_container::{ConnectError, ControlError, CreateError, StartError};
use skep_net::NetError;
pub use skep_types::{ErrorKind, report};

/// Result of an engine operation.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Failure of an engine operation. `Display` never repeats the source; [`EngineError::report`] is
/// the whole chain, which is what clients are to be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No container has this id, name or id prefix.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several containers' ids begin so.
    #[error("Multiple IDs found with provided prefix: {0}")]
    AmbiguousContainer(String),
    /// No exec of this id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// No image of this name.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// No volume of this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// A path in a container's file system is not there.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath {
        /// Path as given.
        path: String,
        /// Container as given.
        container: String,
    },
    /// The name is another container's.
    #[error(
        "Conflict. The container name {name:?} is already in use by container {holder:?}. You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// Name with its slash.
        name: String,
        /// Full id of the container that has it.
        holder: String,
    },
    /// The container must run for this.
    #[error("{}", not_running_text(.id, *.kind))]
    NotRunning {
        /// Container as named.
        id: String,
        /// Which of Docker's texts.
        kind: NotRunningText,
    },
    /// A container must not run for removal.
    #[error("cannot remove container {name:?}: container is {state}: {hint}")]
    RemoveRunning {
        /// Name with its slash.
        name: String,
        /// `running`, `paused` or `restarting`.
        state: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The removal is under way.
    #[error("removal of container {0} is already in progress")]
    RemovalInProgress(String),
    /// Somebody uses the volume.
    #[error("remove {name}: volume is in use - [{}]", holders.join(", "))]
    VolumeInUse {
        /// Volume.
        name: String,
        /// Full ids of the containers.
        holders: Vec<String>,
    },
    /// Nothing to do.
    #[error("{0}")]
    NotModified(String),
    /// A parameter that cannot be; the text names it and its value.
    #[error("{0}")]
    Invalid(String),
    /// A setting that no container can have.
    #[error(transparent)]
    Malformed(#[from] skep_types::check::Malformed),
    /// Not allowed in this state or for this object.
    #[error("{0}")]
    Forbidden(String),
    /// Contradicts the present state.
    #[error("{0}")]
    Conflict(String),
    /// Something named is not there.
    #[error("{0}")]
    NotFound(String),
    /// Known, but not done here.
    #[error("{0}")]
    NotImplemented(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
    /// The container's command could not be executed: Docker's wording, which its client turns into
    /// exit code 126 or 127.
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {failure}: unknown"
    )]
    CommandFailed {
        /// What could not be executed and why.
        failure: skep_container::ExecFailure,
    },
    /// The container could not be set up: Docker's wording.
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: {message}: unknown"
    )]
    SetupFailed {
        /// What failed on what.
        message: String,
    },
    /// The image room failed.
    #[error(transparent)]
    Image(#[from] skep_image::Error),
    /// The network room failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The shim could not be talked to.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The runtime could not create the container.
    #[error("failed to create task for container")]
    Create(#[source] CreateError),
    /// The runtime could not start the container.
    #[error("failed to start task for container")]
    Start(#[source] StartError),
    /// The container's shim could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The shim cannot be reached, and nothing says that the container has ended.
    #[error(
        "container {name} runs, but its shim cannot be reached now ({reason}): it is tried again and again; the container can be removed by force"
    )]
    ShimUnreached {
        /// Container's name.
        name: String,
        /// The last try's error.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A state file does not hold what it should. It is left as it is.
    #[error("cannot use state file {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: skep_types::stored::Unreadable,
    },
    /// The container's record cannot be read; it can be looked at and removed.
    #[error("container {name} is damaged: {reason}")]
    ContainerDamaged {
        /// Its name, or one that stands for it.
        name: String,
        /// Why the record cannot be read.
        reason: String,
    },
    /// What containers use is not known completely.
    #[error(
        "container {container} is damaged, and may use what is to be removed: repair its record {} and restart the \
         daemon, or remove the container (docker rm -f {container})",
        file.display()
    )]
    UsesUnknown {
        /// Its name, or one that stands for it.
        container: String,
        /// Its record.
        file: PathBuf,
    },
    /// The record is that of another folder.
    #[error("the record in {} is that of container {id}", dir.display())]
    StrayRecord {
        /// Folder.
        dir: PathBuf,
        /// Whose record it is.
        id: String,
    },
    /// There is no record.
    #[error("{} is missing", path.display())]
    NoRecord {
        /// Where it should be.
        path: PathBuf,
    },
    /// The options of a volume are not known, and it holds nothing.
    #[error(
        "volume {name} cannot be used: {damage}; repair the file, or remove {} to use what is beside it as a plain volume",
        file.display()
    )]
    VolumeDamaged {
        /// Volume.
        name: String,
        /// Why its record cannot be read.
        damage: String,
        /// Its record.
        file: PathBuf,
    },
    /// Another operation of the system failed.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Docker says "is not running" in several ways, and clients match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRunningText {
    /// `Container x is not running`
    Plain,
    /// `Cannot kill container: x: container x is not running`
    Kill,
    /// `container x is not running` for exec
    Exec,
}

fn not_running_text(id: &str, kind: NotRunningText) -> String {
    match kind {
        NotRunningText::Plain => format!("Container {id} is not running"),
        NotRunningText::Kill => {
            format!("cannot kill container: {id}: container {id} is not running")
        }
        NotRunningText::Exec => format!("container {id} is not running"),
    }
}

/// The exit code Docker shows for a container that could not be started.
const START_FAILED: i64 = 128;

impl From<CreateError> for EngineError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Launch { message, .. } => Self::SetupFailed { message },
            other => Self::Create(other),
        }
    }
}

impl From<StartError> for EngineError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Exec { failure, .. } => Self::CommandFailed { failure },
            StartError::Launch { message, .. } => Self::SetupFailed { message },
            other => Self::Start(other),
        }
    }
}

impl EngineError {
    /// The exit code of a container whose start failed so. Docker reads it from the text.
    pub(crate) fn exit_code(&self) -> i64 {
        match self {
            Self::CommandFailed { failure } => i64::from(failure.exit_code()),
            Self::SetupFailed { message } => {
                let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
                if says(&["no such file or directory", "not a directory"]) {
                    127
                } else if says(&["permission denied", "is a directory"]) {
                    126
                } else {
                    START_FAILED
                }
            }
            _ => START_FAILED,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn system(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::System { what: what.into(), source: source.into() }
    }

    /// What a caller should make of it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchImage(_)
            | Self::NoSuchVolume(_)
            | Self::NoSuchPath { .. }
            | Self::NotFound(_) => ErrorKind::NotFound,
            Self::NotModified(_) => ErrorKind::NotModified,
            Self::Invalid(_)
            | Self::Malformed(_)
            | Self::AmbiguousContainer(_)
            | Self::CommandFailed { .. } => ErrorKind::InvalidParameter,
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::NameInUse { .. }
            | Self::NotRunning { .. }
            | Self::RemoveRunning { .. }
            | Self::RemovalInProgress(_)
            | Self::VolumeInUse { .. }
            | Self::ContainerDamaged { .. }
            | Self::UsesUnknown { .. }
            | Self::Conflict(_) => ErrorKind::Conflict,
            Self::NotImplemented(_) => ErrorKind::NotImplemented,
            Self::Unavailable(_) | Self::ShimUnreached { .. } => ErrorKind::Unavailable,
            Self::Image(e) => match e.kind() {
                // Docker says no more of a registry.
                ErrorKind::Unavailable => ErrorKind::System,
                kind => kind,
            },
            Self::Net(e) => e.kind(),
            _ => ErrorKind::System,
        }
    }

    /// The whole chain as said of an exec that did not start, in Docker's words.
    pub fn report_of_exec(&self) -> String {
        let words = "OCI runtime exec failed: exec failed: unable to start container process";
        match self {
            Self::CommandFailed { failure } => format!("{words}: {failure}: unknown"),
            Self::SetupFailed { message } => format!("{words}: {message}: unknown"),
            other => other.report(),
        }
    }

    /// The whole chain in one line, outermost first, joined with ": ".
    pub fn report(&self) -> String {
        report(self)
    }
}
