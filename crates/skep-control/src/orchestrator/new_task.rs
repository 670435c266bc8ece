use skep_types::{Service, ServiceMode, Task, TaskSpec, TaskState};

use crate::admission::networks_of;
use crate::slots::SlotKey;
use crate::{Draft, Rng, new_id};

/// The spec that tasks of a service get: its template, with networks from wherever they are given.
pub(crate) fn task_spec(service: &Service) -> TaskSpec {
    let mut spec = service.spec.task_template.clone();
    spec.networks = networks_of(&service.spec).cloned().collect();
    spec
}

/// The desired state of a service's task while it is wanted.
pub(crate) fn running_state(service: &Service) -> TaskState {
    match service.spec.mode {
        ServiceMode::Replicated(_) | ServiceMode::Global(_) => TaskState::Running,
        ServiceMode::ReplicatedJob(_) | ServiceMode::GlobalJob(_) => TaskState::Complete,
    }
}

/// Creates a task from the service's present spec.
pub(crate) fn create(
    draft: &mut Draft,
    service: &Service,
    key: &SlotKey,
    desired: TaskState,
    rng: &mut dyn Rng,
) {
    let (slot, node_id) = match key {
        SlotKey::Number(number) => (*number, skep_types::NodeId::default()),
        SlotKey::Node(node) => (0, node.clone()),
    };
    let template = task_spec(service);
    let defaults = draft.cluster().map(|cluster| &cluster.spec.task_defaults);
    let log_driver = (template.log_driver.clone())
        .or_else(|| defaults.and_then(|defaults| defaults.log_driver.clone()));
    let mut task = Task {
        id: new_id(rng),
        service_id: service.id.clone(),
        slot,
        node_id,
        desired_state: desired,
        service_annotations: service.spec.annotations.clone(),
        spec_version: service.spec_version,
        job_iteration: service.job_status.as_ref().map(|job| job.job_iteration),
        log_driver,
        spec: template,
        ..Task::default()
    };
    task.status.timestamp = draft.now();
    task.status.message = "created".to_owned();
    draft.put(task);
}
