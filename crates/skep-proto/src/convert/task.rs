use skep_types as t;

use super::container::{container_from_pb, container_to_pb};
use super::util::{
    Result, duration, into_list, into_or_default, known, list, maybe, maybe_nanos, maybe_timestamp,
    owned, pb_timestamp, timestamp_or_zero, timestamp_unless_zero, try_list, try_maybe,
    try_or_default, unless_default,
};
use crate::{ConvertError, v1 as pb};

const RUNTIME_CONTAINER: &str = "container";
const RUNTIME_ATTACHMENT: &str = "attachment";

impl From<&t::RestartPolicy> for pb::RestartPolicy {
    fn from(policy: &t::RestartPolicy) -> Self {
        Self {
            condition: pb::restart_policy::RestartCondition::from(policy.condition).into(),
            delay: policy.delay.map(duration),
            max_attempts: policy.max_attempts.unwrap_or_default(),
            window: policy.window.map(duration),
        }
    }
}

impl TryFrom<pb::RestartPolicy> for t::RestartPolicy {
    type Error = ConvertError;

    fn try_from(policy: pb::RestartPolicy) -> Result<Self> {
        use pb::restart_policy::RestartCondition;
        Ok(Self {
            condition: known::<RestartCondition, _>(
                "condition",
                "restart condition",
                policy.condition,
            )?,
            delay: maybe_nanos("delay", policy.delay)?,
            max_attempts: Some(policy.max_attempts),
            window: maybe_nanos("window", policy.window)?,
        })
    }
}

impl From<&t::PlacementPreference> for pb::PlacementPreference {
    fn from(preference: &t::PlacementPreference) -> Self {
        use pb::placement_preference::Preference;
        Self {
            preference: preference.spread.as_ref().map(|spread| {
                Preference::Spread(pb::SpreadOver {
                    spread_descriptor: spread.spread_descriptor.clone(),
                })
            }),
        }
    }
}

impl From<pb::PlacementPreference> for t::PlacementPreference {
    fn from(preference: pb::PlacementPreference) -> Self {
        use pb::placement_preference::Preference;
        Self {
            spread: preference.preference.map(|Preference::Spread(spread)| t::SpreadOver {
                spread_descriptor: spread.spread_descriptor,
            }),
        }
    }
}

impl From<&t::Placement> for pb::Placement {
    fn from(placement: &t::Placement) -> Self {
        Self {
            constraints: placement.constraints.clone(),
            preferences: list(&placement.preferences),
            platforms: list(&placement.platforms),
            max_replicas: placement.max_replicas,
        }
    }
}

impl From<pb::Placement> for t::Placement {
    fn from(placement: pb::Placement) -> Self {
        Self {
            constraints: placement.constraints,
            preferences: into_list(placement.preferences),
            max_replicas: placement.max_replicas,
            platforms: into_list(placement.platforms),
        }
    }
}

impl From<&t::TaskSpec> for pb::TaskSpec {
    /// A container wins over an attachment; validation refuses both at once.
    fn from(spec: &t::TaskSpec) -> Self {
        use pb::task_spec::Runtime;
        let limits = spec.resources.as_ref().and_then(|r| r.limits.as_ref());
        let pids = limits.map_or(0, |limits| limits.pids);
        let container =
            spec.container_spec.as_ref().map(|c| Runtime::Container(container_to_pb(c, pids)));
        let attachment = spec.network_attachment_spec.as_ref().map(|a| {
            Runtime::Attachment(pb::NetworkAttachmentSpec { container_id: a.container_id.clone() })
        });
        let resources = spec.resources.as_ref().map(|r| pb::ResourceRequirements {
            limits: r.limits.as_ref().map(|limits| pb::Resources {
                nano_cpus: limits.nano_cpus,
                memory_bytes: limits.memory_bytes,
                generic: Vec::new(),
            }),
            reservations: maybe(&r.reservations),
            swap_bytes: r.swap_bytes,
            memory_swappiness: r.memory_swappiness,
        });
        Self {
            runtime: container.or(attachment),
            resources,
            restart: maybe(&spec.restart_policy),
            placement: maybe(&spec.placement),
            log_driver: maybe(&spec.log_driver),
            networks: list(&spec.networks),
            force_update: spec.force_update,
            resource_references: Vec::new(),
        }
    }
}

impl TryFrom<pb::TaskSpec> for t::TaskSpec {
    type Error = ConvertError;

    /// A runtime we do not have (a plugin) leaves both forms empty and its kind in `runtime`, so that
    /// the agent can refuse that task and keep the others.
    fn try_from(spec: pb::TaskSpec) -> Result<Self> {
        use pb::task_spec::Runtime;
        let mut out = Self {
            resources: spec.resources.map(resources),
            restart_policy: try_maybe("restart", spec.restart)?,
            placement: spec.placement.map(Into::into),
            networks: into_list(spec.networks),
            log_driver: spec.log_driver.map(Into::into),
            force_update: spec.force_update,
            ..Self::default()
        };
        match spec.runtime {
            Some(Runtime::Container(container)) => {
                let (container, pids) =
                    container_from_pb(container).map_err(|e| e.within("container"))?;
                out.container_spec = Some(container);
                RUNTIME_CONTAINER.clone_into(&mut out.runtime);
                if pids != 0 {
                    let resources = out.resources.get_or_insert_default();
                    resources.limits.get_or_insert_default().pids = pids;
                }
            }
            Some(Runtime::Attachment(attachment)) => {
                out.network_attachment_spec =
                    Some(t::NetworkAttachmentSpec { container_id: attachment.container_id });
                RUNTIME_ATTACHMENT.clone_into(&mut out.runtime);
            }
            Some(Runtime::Generic(generic)) => out.runtime = generic.kind,
            None => {}
        }
        Ok(out)
    }
}

fn resources(requirements: pb::ResourceRequirements) -> t::ResourceRequirements {
    t::ResourceRequirements {
        limits: requirements.limits.map(|limits| t::Limit {
            nano_cpus: limits.nano_cpus,
            memory_bytes: limits.memory_bytes,
            pids: 0,
        }),
        reservations: requirements.reservations.map(Into::into),
        swap_bytes: requirements.swap_bytes,
        memory_swappiness: requirements.memory_swappiness,
    }
}

impl From<&t::TaskStatus> for pb::TaskStatus {
    fn from(status: &t::TaskStatus) -> Self {
        use pb::task_status::RuntimeStatus;
        Self {
            timestamp: timestamp_unless_zero(status.timestamp),
            state: pb::TaskState::from(status.state).into(),
            message: status.message.clone(),
            err: status.err.clone(),
            port_status: unless_default(&status.port_status),
            applied_by: status.applied_by.to_string(),
            applied_at: status.applied_at.map(pb_timestamp),
            runtime_status: status.container_status.as_ref().map(|container| {
                RuntimeStatus::Container(pb::ContainerStatus {
                    container_id: container.container_id.clone(),
                    pid: container.pid,
                    exit_code: container.exit_code,
                })
            }),
        }
    }
}

impl TryFrom<pb::TaskStatus> for t::TaskStatus {
    type Error = ConvertError;

    fn try_from(status: pb::TaskStatus) -> Result<Self> {
        use pb::task_status::RuntimeStatus;
        let container_status = status.runtime_status.map(|RuntimeStatus::Container(c)| {
            t::ContainerStatus { container_id: c.container_id, pid: c.pid, exit_code: c.exit_code }
        });
        Ok(Self {
            timestamp: timestamp_or_zero("timestamp", status.timestamp)?,
            state: known::<pb::TaskState, _>("state", "task state", status.state)?,
            message: status.message,
            err: status.err,
            container_status,
            port_status: try_or_default("port_status", status.port_status)?,
            applied_at: maybe_timestamp("applied_at", status.applied_at)?,
            applied_by: status.applied_by.into(),
        })
    }
}

impl From<&t::PortStatus> for pb::PortStatus {
    fn from(status: &t::PortStatus) -> Self {
        Self { ports: list(&status.ports) }
    }
}

impl TryFrom<pb::PortStatus> for t::PortStatus {
    type Error = ConvertError;

    fn try_from(status: pb::PortStatus) -> Result<Self> {
        Ok(Self { ports: try_list("ports", status.ports)? })
    }
}

impl From<&t::Task> for pb::Task {
    fn from(task: &t::Task) -> Self {
        Self {
            id: task.id.to_string(),
            meta: Some((&task.meta).into()),
            spec: Some((&task.spec).into()),
            service_id: task.service_id.to_string(),
            slot: task.slot,
            node_id: task.node_id.to_string(),
            annotations: Some((&task.annotations).into()),
            service_annotations: Some((&task.service_annotations).into()),
            status: Some((&task.status).into()),
            desired_state: pb::TaskState::from(task.desired_state).into(),
            networks: list(&task.networks_attachments),
            endpoint: maybe(&task.endpoint),
            log_driver: maybe(&task.log_driver),
            spec_version: maybe(&task.spec_version),
            assigned_generic_resources: list(&task.generic_resources),
            job_iteration: maybe(&task.job_iteration),
            volumes: Vec::new(),
        }
    }
}

impl TryFrom<pb::Task> for t::Task {
    type Error = ConvertError;

    fn try_from(task: pb::Task) -> Result<Self> {
        Ok(Self {
            id: task.id.into(),
            meta: try_or_default("meta", task.meta)?,
            annotations: into_or_default(task.annotations),
            spec: try_or_default("spec", task.spec)?,
            service_id: task.service_id.into(),
            slot: task.slot,
            node_id: task.node_id.into(),
            status: try_or_default("status", task.status)?,
            desired_state: known::<pb::TaskState, _>(
                "desired_state",
                "task state",
                task.desired_state,
            )?,
            networks_attachments: try_list("networks", task.networks)?,
            generic_resources: into_list(task.assigned_generic_resources),
            job_iteration: task.job_iteration.map(Into::into),
            service_annotations: into_or_default(task.service_annotations),
            endpoint: try_maybe("endpoint", task.endpoint)?,
            log_driver: task.log_driver.map(Into::into),
            spec_version: task.spec_version.map(Into::into),
        })
    }
}

owned!(Task, TaskSpec, TaskStatus, PortStatus);
