use serde::{Deserialize, Serialize};

use crate::{
    Annotations, ContainerSpec, Driver, Endpoint, GenericResource, Meta, Nanos, NetworkAttachment,
    NetworkAttachmentConfig, NodeId, Platform, PortConfig, ResourceRequirements, ServiceId,
    StringMap, TaskId, TaskState, Timestamp, Version, is_default,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    None,
    OnFailure,
    #[default]
    #[serde(alias = "")]
    Any,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    pub condition: RestartCondition,
    /// `None` is 5 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Nanos>,
    /// 0 means without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// Time over which attempts are counted; zero counts for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Nanos>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SpreadOver {
    pub spread_descriptor: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlacementPreference {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<SpreadOver>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Placement {
    #[serde(skip_serializing_if = "is_default")]
    pub constraints: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub preferences: Vec<PlacementPreference>,
    /// Tasks of the service per node; 0 means any number.
    #[serde(skip_serializing_if = "is_default")]
    pub max_replicas: u64,
    /// Any of these; empty fits every node.
    #[serde(skip_serializing_if = "is_default")]
    pub platforms: Vec<Platform>,
}

/// A container outside any service that asks for addresses on an attachable network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachmentSpec {
    #[serde(rename = "ContainerID")]
    pub container_id: String,
}

/// What a task runs: exactly one of `container_spec` and `network_attachment_spec` is set in a task
/// that an agent accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_spec: Option<ContainerSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_attachment_spec: Option<NetworkAttachmentSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    #[serde(skip_serializing_if = "is_default")]
    pub networks: Vec<NetworkAttachmentConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
    /// Counts forced updates; a change makes new tasks.
    pub force_update: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStatus {
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    #[serde(rename = "PID")]
    pub pid: i32,
    pub exit_code: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortStatus {
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<PortConfig>,
}

/// What was last observed of a task; written by its node once it is assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskStatus {
    pub timestamp: Timestamp,
    pub state: TaskState,
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
    #[serde(skip_serializing_if = "is_default")]
    pub err: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_status: Option<ContainerStatus>,
    pub port_status: PortStatus,
    /// When the leader stored this status.
    #[serde(rename = "_appliedAt", skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
    /// The leader that did.
    #[serde(rename = "_appliedBy", skip_serializing_if = "is_default")]
    pub applied_by: NodeId,
}

/// One attempt to run a service's container in one slot on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    #[serde(rename = "ID")]
    pub id: TaskId,
    #[serde(flatten)]
    pub meta: Meta,
    #[serde(flatten)]
    pub annotations: Annotations,
    pub spec: TaskSpec,
    #[serde(rename = "ServiceID", skip_serializing_if = "is_default")]
    pub service_id: ServiceId,
    /// From 1; 0 for tasks of global services and for attachments.
    #[serde(skip_serializing_if = "is_default")]
    pub slot: u64,
    #[serde(rename = "NodeID", skip_serializing_if = "is_default")]
    pub node_id: NodeId,
    pub status: TaskStatus,
    pub desired_state: TaskState,
    #[serde(skip_serializing_if = "is_default")]
    pub networks_attachments: Vec<NetworkAttachment>,
    #[serde(skip_serializing_if = "is_default")]
    pub generic_resources: Vec<GenericResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_iteration: Option<Version>,
    /// Name and labels of the service when the task was made.
    #[serde(rename = "_serviceAnnotations")]
    pub service_annotations: Annotations,
    /// Copy of the service's endpoint: its VIPs and ports.
    #[serde(rename = "_endpoint", skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The task's own log driver, or the swarm's default.
    #[serde(rename = "_logDriver", skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
    /// `Service::spec_version` the task was made from.
    #[serde(rename = "_specVersion", skip_serializing_if = "Option::is_none")]
    pub spec_version: Option<Version>,
}

impl Task {
    /// The task's name, which is its container's name too.
    pub fn name(&self) -> String {
        if !self.annotations.name.is_empty() {
            return self.annotations.name.clone();
        }
        let service = &self.service_annotations.name;
        if self.slot != 0 {
            format!("{service}.{}.{}", self.slot, self.id)
        } else {
            format!("{service}.{}.{}", self.node_id, self.id)
        }
    }

    /// Labels every container of a task carries, which say where it belongs.
    pub fn container_labels(&self) -> StringMap {
        const PREFIX: &str = "com.docker.swarm";
        [
            ("task", String::new()),
            ("task.id", self.id.to_string()),
            ("task.name", self.name()),
            ("node.id", self.node_id.to_string()),
            ("service.id", self.service_id.to_string()),
            ("service.name", self.service_annotations.name.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("{PREFIX}.{key}"), value))
        .collect()
    }
}
