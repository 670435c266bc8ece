use skep_types::{ServiceMode, ServiceSpec};

use super::ControlError;

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
