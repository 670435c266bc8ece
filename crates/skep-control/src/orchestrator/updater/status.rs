use skep_types::{
    FailureAction, Service, ServiceId, TaskId, Timestamp, UpdateConfig, UpdateState, UpdateStatus,
};

use crate::Draft;

pub(super) fn begin(draft: &mut Draft, id: &ServiceId, state: Option<UpdateState>) {
    let now = draft.now();
    let rollback =
        matches!(state, Some(UpdateState::RollbackStarted | UpdateState::RollbackCompleted));
    draft.service_mut(id, |service| {
        service.update_status = Some(UpdateStatus {
            state: if rollback { UpdateState::RollbackStarted } else { UpdateState::Updating },
            started_at: Some(now),
            completed_at: None,
            message: if rollback { "rollback in progress" } else { "update in progress" }
                .to_owned(),
        });
    });
}

/// Acts on too many failures; true if a rollback began.
pub(super) fn stop(
    draft: &mut Draft,
    service: &Service,
    config: &UpdateConfig,
    culprit: &TaskId,
) -> bool {
    let now = draft.now();
    let cause = format!("due to failure or early termination of task {culprit}");
    let rolling_back = is_rollback(service);
    let previous = match config.failure_action {
        FailureAction::Rollback if !rolling_back => service.previous_spec.clone(),
        _ => None,
    };
    let started = previous.is_some();
    draft.service_mut(&service.id, |service| {
        let started_at = started_at(service);
        service.update_status = Some(if let Some(spec) = previous {
            service.spec = spec;
            service.spec_version = service.previous_spec_version.take();
            service.previous_spec = None;
            UpdateStatus {
                state: UpdateState::RollbackStarted,
                started_at: Some(now),
                completed_at: None,
                message: format!("update rolled back {cause}"),
            }
        } else if rolling_back {
            UpdateStatus {
                state: UpdateState::RollbackPaused,
                started_at,
                completed_at: None,
                message: format!("rollback paused {cause}"),
            }
        } else {
            UpdateStatus {
                state: UpdateState::Paused,
                started_at,
                completed_at: None,
                message: format!("update paused {cause}"),
            }
        });
    });
    started
}

pub(super) fn complete(draft: &mut Draft, id: &ServiceId) {
    let now = draft.now();
    draft.service_mut(id, |service| {
        let rollback = is_rollback(service);
        let started_at = started_at(service);
        let (state, message) = if rollback {
            (UpdateState::RollbackCompleted, "rollback completed")
        } else {
            (UpdateState::Completed, "update completed")
        };
        service.update_status = Some(UpdateStatus {
            state,
            started_at,
            completed_at: Some(now),
            message: message.to_owned(),
        });
    });
}

pub(super) fn is_rollback(service: &Service) -> bool {
    service.update_status.as_ref().is_some_and(|s| s.state == UpdateState::RollbackStarted)
}

pub(super) fn started_at(service: &Service) -> Option<Timestamp> {
    service.update_status.as_ref().and_then(|status| status.started_at)
}
