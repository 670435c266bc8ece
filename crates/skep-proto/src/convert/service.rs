use skep_types as t;

use super::util::{
    Result, duration, into_list, into_or_default, known, list, maybe, maybe_nanos, maybe_timestamp,
    nanos_or_zero, owned, pb_timestamp, timestamp_or_zero, timestamp_unless_zero, try_list,
    try_maybe, try_or_default, unless_default,
};
use crate::{ConvertError, v1 as pb};

impl From<&t::UpdateConfig> for pb::UpdateConfig {
    fn from(config: &t::UpdateConfig) -> Self {
        Self {
            parallelism: config.parallelism,
            delay: Some(duration(config.delay)),
            failure_action: pb::update_config::FailureAction::from(config.failure_action).into(),
            monitor: config.monitor.map(duration),
            max_failure_ratio: config.max_failure_ratio,
            order: pb::update_config::UpdateOrder::from(config.order).into(),
        }
    }
}

impl TryFrom<pb::UpdateConfig> for t::UpdateConfig {
    type Error = ConvertError;

    fn try_from(config: pb::UpdateConfig) -> Result<Self> {
        use pb::update_config::{FailureAction, UpdateOrder};
        Ok(Self {
            parallelism: config.parallelism,
            delay: nanos_or_zero("delay", config.delay)?,
            failure_action: known::<FailureAction, _>(
                "failure_action",
                "failure action",
                config.failure_action,
            )?,
            monitor: maybe_nanos("monitor", config.monitor)?,
            max_failure_ratio: config.max_failure_ratio,
            order: known::<UpdateOrder, _>("order", "update order", config.order)?,
        })
    }
}

impl From<&t::EndpointSpec> for pb::EndpointSpec {
    fn from(spec: &t::EndpointSpec) -> Self {
        Self {
            mode: pb::endpoint_spec::ResolutionMode::from(spec.mode).into(),
            ports: list(&spec.ports),
        }
    }
}

impl TryFrom<pb::EndpointSpec> for t::EndpointSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::EndpointSpec) -> Result<Self> {
        use pb::endpoint_spec::ResolutionMode;
        Ok(Self {
            mode: known::<ResolutionMode, _>("mode", "endpoint mode", spec.mode)?,
            ports: try_list("ports", spec.ports)?,
        })
    }
}

impl From<&t::VirtualIp> for pb::endpoint::VirtualIp {
    fn from(vip: &t::VirtualIp) -> Self {
        Self { network_id: vip.network_id.to_string(), addr: vip.addr.clone() }
    }
}

impl From<pb::endpoint::VirtualIp> for t::VirtualIp {
    fn from(vip: pb::endpoint::VirtualIp) -> Self {
        Self { network_id: vip.network_id.into(), addr: vip.addr }
    }
}

impl From<&t::Endpoint> for pb::Endpoint {
    fn from(endpoint: &t::Endpoint) -> Self {
        Self {
            spec: Some((&endpoint.spec).into()),
            ports: list(&endpoint.ports),
            virtual_ips: list(&endpoint.virtual_ips),
        }
    }
}

impl TryFrom<pb::Endpoint> for t::Endpoint {
    type Error = ConvertError;

    fn try_from(endpoint: pb::Endpoint) -> Result<Self> {
        Ok(Self {
            spec: try_or_default("spec", endpoint.spec)?,
            ports: try_list("ports", endpoint.ports)?,
            virtual_ips: into_list(endpoint.virtual_ips),
        })
    }
}

impl From<&t::ServiceMode> for pb::service_spec::Mode {
    /// Numbers that a user left out take their defaults here: one replica; one completion at a time;
    /// as many completions as run at a time.
    fn from(mode: &t::ServiceMode) -> Self {
        match mode {
            t::ServiceMode::Replicated(replicated) => Self::Replicated(pb::ReplicatedService {
                replicas: replicated.replicas.unwrap_or(1),
            }),
            t::ServiceMode::Global(_) => Self::Global(pb::GlobalService {}),
            t::ServiceMode::ReplicatedJob(job) => {
                let max_concurrent = job.max_concurrent.unwrap_or(1);
                Self::ReplicatedJob(pb::ReplicatedJob {
                    max_concurrent,
                    total_completions: job.total_completions.unwrap_or(max_concurrent),
                })
            }
            t::ServiceMode::GlobalJob(_) => Self::GlobalJob(pb::GlobalJob {}),
        }
    }
}

impl From<pb::service_spec::Mode> for t::ServiceMode {
    fn from(mode: pb::service_spec::Mode) -> Self {
        use pb::service_spec::Mode;
        match mode {
            Mode::Replicated(replicated) => {
                Self::Replicated(t::ReplicatedService { replicas: Some(replicated.replicas) })
            }
            Mode::Global(_) => Self::Global(t::GlobalService {}),
            Mode::ReplicatedJob(job) => Self::ReplicatedJob(t::ReplicatedJob {
                max_concurrent: Some(job.max_concurrent),
                total_completions: Some(job.total_completions),
            }),
            Mode::GlobalJob(_) => Self::GlobalJob(t::GlobalJob {}),
        }
    }
}

impl From<&t::ServiceSpec> for pb::ServiceSpec {
    #[expect(deprecated, reason = "old clients write and read this place of networks")]
    fn from(spec: &t::ServiceSpec) -> Self {
        Self {
            annotations: Some((&spec.annotations).into()),
            task: Some((&spec.task_template).into()),
            mode: Some((&spec.mode).into()),
            update: maybe(&spec.update_config),
            rollback: maybe(&spec.rollback_config),
            networks: list(&spec.networks),
            endpoint: maybe(&spec.endpoint_spec),
        }
    }
}

impl TryFrom<pb::ServiceSpec> for t::ServiceSpec {
    type Error = ConvertError;

    #[expect(deprecated, reason = "old clients write and read this place of networks")]
    fn try_from(spec: pb::ServiceSpec) -> Result<Self> {
        Ok(Self {
            annotations: into_or_default(spec.annotations),
            task_template: try_or_default("task", spec.task)?,
            mode: into_or_default(spec.mode),
            update_config: try_maybe("update", spec.update)?,
            rollback_config: try_maybe("rollback", spec.rollback)?,
            networks: into_list(spec.networks),
            endpoint_spec: try_maybe("endpoint", spec.endpoint)?,
        })
    }
}

impl From<&t::UpdateStatus> for pb::UpdateStatus {
    fn from(status: &t::UpdateStatus) -> Self {
        Self {
            state: pb::update_status::UpdateState::from(status.state).into(),
            started_at: status.started_at.map(pb_timestamp),
            completed_at: status.completed_at.map(pb_timestamp),
            message: status.message.clone(),
        }
    }
}

impl TryFrom<pb::UpdateStatus> for t::UpdateStatus {
    type Error = ConvertError;

    fn try_from(status: pb::UpdateStatus) -> Result<Self> {
        use pb::update_status::UpdateState;
        Ok(Self {
            state: known::<UpdateState, _>("state", "update state", status.state)?,
            started_at: maybe_timestamp("started_at", status.started_at)?,
            completed_at: maybe_timestamp("completed_at", status.completed_at)?,
            message: status.message,
        })
    }
}

impl From<&t::JobStatus> for pb::JobStatus {
    fn from(status: &t::JobStatus) -> Self {
        Self {
            job_iteration: Some((&status.job_iteration).into()),
            last_execution: timestamp_unless_zero(status.last_execution),
        }
    }
}

impl TryFrom<pb::JobStatus> for t::JobStatus {
    type Error = ConvertError;

    fn try_from(status: pb::JobStatus) -> Result<Self> {
        Ok(Self {
            job_iteration: into_or_default(status.job_iteration),
            last_execution: timestamp_or_zero("last_execution", status.last_execution)?,
        })
    }
}

impl From<&t::Service> for pb::Service {
    fn from(service: &t::Service) -> Self {
        Self {
            id: service.id.to_string(),
            meta: Some((&service.meta).into()),
            spec: Some((&service.spec).into()),
            endpoint: unless_default(&service.endpoint),
            update_status: maybe(&service.update_status),
            previous_spec: maybe(&service.previous_spec),
            pending_delete: service.pending_delete,
            spec_version: maybe(&service.spec_version),
            previous_spec_version: maybe(&service.previous_spec_version),
            job_status: maybe(&service.job_status),
        }
    }
}

impl TryFrom<pb::Service> for t::Service {
    type Error = ConvertError;

    fn try_from(service: pb::Service) -> Result<Self> {
        Ok(Self {
            id: service.id.into(),
            meta: try_or_default("meta", service.meta)?,
            spec: try_or_default("spec", service.spec)?,
            previous_spec: try_maybe("previous_spec", service.previous_spec)?,
            endpoint: try_or_default("endpoint", service.endpoint)?,
            update_status: try_maybe("update_status", service.update_status)?,
            job_status: try_maybe("job_status", service.job_status)?,
            spec_version: service.spec_version.map(Into::into),
            previous_spec_version: service.previous_spec_version.map(Into::into),
            pending_delete: service.pending_delete,
        })
    }
}

owned!(Service, ServiceSpec, Endpoint, EndpointSpec, UpdateConfig);
