use skep_types::{ServiceMode, ServiceSpec};

use super::ControlError;

/// Numbers that were left out: one replica; one run of a job at a time, and as many in all as at a
/// time. Clients read them back and expect them.
pub(super) fn fill_defaults(mode: &mut ServiceMode) {
    match mode {
        ServiceMode::Replicated(replicated) => {
            replicated.replicas.get_or_insert(1);
        }
        ServiceMode::ReplicatedJob(job) => {
            let concurrent = *job.max_concurrent.get_or_insert(1);
            job.total_completions.get_or_insert(concurrent);
        }
        ServiceMode::Global(_) | ServiceMode::GlobalJob(_) => {}
    }
}

pub(super) fn check(spec: &ServiceSpec) -> Result<(), ControlError> {
    let job = matches!(spec.mode, ServiceMode::ReplicatedJob(_) | ServiceMode::GlobalJob(_));
    if job && (spec.update_config.is_some() || spec.rollback_config.is_some()) {
        return Err(ControlError::invalid("update and rollback configs cannot be used with jobs"));
    }
    let global = matches!(spec.mode, ServiceMode::Global(_) | ServiceMode::GlobalJob(_));
    let max = spec.task_template.placement.as_ref().map_or(0, |placement| placement.max_replicas);
    if global && max > 0 {
        return Err(ControlError::invalid(
            "max replicas per node can't be used with a global service",
        ));
    }
    Ok(())
}

/// Whether one may become the other: the mode's kind is fixed, its numbers are not.
pub(super) fn same_kind(a: &ServiceMode, b: &ServiceMode) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{ReplicatedJob, ReplicatedService};

    #[test]
    fn numbers_left_out_are_filled_in() {
        let mut mode = ServiceMode::Replicated(ReplicatedService::default());
        fill_defaults(&mut mode);
        assert_eq!(mode, ServiceMode::Replicated(ReplicatedService { replicas: Some(1) }));
        let job = ReplicatedJob { max_concurrent: Some(3), total_completions: None };
        let mut mode = ServiceMode::ReplicatedJob(job);
        fill_defaults(&mut mode);
        let job = ReplicatedJob { max_concurrent: Some(3), total_completions: Some(3) };
        assert_eq!(mode, ServiceMode::ReplicatedJob(job));
    }
}
