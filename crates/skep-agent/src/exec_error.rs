use thiserror::Error;

/// Any cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a step on a task's container did not go as asked, sorted by what the agent does next.
#[derive(Debug, Error)]
pub enum ExecError {
    /// Tried again after a second, without end: the registry does not answer, an address is not there
    /// yet.
    #[error("{action}")]
    Temporary {
        /// What was tried on what, as in `pull image nginx:1.27`.
        action: String,
        #[source]
        source: Cause,
    },
    /// Ends the task: rejected below STARTING, failed from there on. Its text, causes included,
    /// becomes the task's error.
    #[error("{action}")]
    Fatal {
        action: String,
        #[source]
        source: Cause,
    },
    /// Ends the task like [`ExecError::Fatal`], where there is no deeper cause.
    #[error("{reason}")]
    Refused { reason: String },
    /// The container was prepared before, by this process or an earlier one: counts as done.
    #[error("the container is prepared already")]
    AlreadyPrepared,
    /// The container was started before: counts as done.
    #[error("the container is started already")]
    AlreadyStarted,
    /// The container ended with a code that is not zero, or was found unhealthy.
    #[error("task: non-zero exit ({code}){}", cause_suffix(cause))]
    Exit {
        code: i32,
        /// Why, where the code alone misleads, as in `unhealthy container`.
        cause: Option<String>,
    },
}

impl ExecError {
    pub fn temporary(action: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Temporary { action: action.into(), source: source.into() }
    }

    pub fn fatal(action: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Fatal { action: action.into(), source: source.into() }
    }

    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

fn cause_suffix(cause: &Option<String>) -> String {
    cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
}
