use skep_types::{
    ClusterSpec, NodeId, ServiceId, ServiceSpec, StringMap, TaskId, Timestamp, Version,
};

/// Where an updated service takes its registry credentials from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RegistryAuth {
    /// Base64url JSON from the request.
    New(String),
    /// Keep those of the current spec.
    #[default]
    FromSpec,
    /// Take those of the previous spec.
    FromPreviousSpec,
}

/// A change of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceUpdate {
    /// The version that the caller read; anything else is refused as out of sequence.
    pub version: Version,
    /// What it should become; unused with `rollback`.
    pub spec: ServiceSpec,
    pub registry_auth: RegistryAuth,
    /// Go back to the previous spec instead (`rollback=previous`).
    pub rollback: bool,
}

/// A change of the swarm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterUpdate {
    pub version: Version,
    pub spec: ClusterSpec,
    pub rotate_worker_token: bool,
    pub rotate_manager_token: bool,
    pub rotate_manager_unlock_key: bool,
}

/// Counts shown by `docker service ls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceTaskCounts {
    pub running: u64,
    pub desired: u64,
    pub completed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// Whose logs: references of services or tasks (id, name, unique id prefix).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSelector {
    pub services: Vec<String>,
    pub tasks: Vec<String>,
    pub nodes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Empty means both.
    pub streams: Vec<LogStream>,
    pub follow: bool,
    /// Last lines of each task; `None` is everything.
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
}

/// One line (or part of a line) that a task wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMessage {
    pub service_id: ServiceId,
    pub node_id: NodeId,
    pub task_id: TaskId,
    pub timestamp: Timestamp,
    pub stream: LogStream,
    /// With its line end, if it had one.
    pub data: Vec<u8>,
    /// Details of the log driver.
    pub attrs: StringMap,
}
