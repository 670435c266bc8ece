use skep_types::{NodeState, Service, ServiceMode, Task, TaskState};

use crate::Store;

/// The numbers `service ls` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    pub running_tasks: u64,
    pub desired_tasks: u64,
    /// Of a job's present run.
    pub completed_tasks: u64,
}

/// What was last heard from a node that is down is not known to be so any more.
fn is_running(store: &Store, task: &Task) -> bool {
    task.status.state == TaskState::Running
        && store.node(&task.node_id).is_some_and(|node| node.status.state != NodeState::Down)
}

/// Counts a service's tasks. For replicated jobs `desired_tasks` is how many run at once.
pub fn service_status(store: &Store, service: &Service) -> ServiceStatus {
    let mut status = ServiceStatus::default();
    let iteration = service.job_status.as_ref().map(|job| job.job_iteration);
    let mut wanted = 0;
    for task in store.tasks_of_service(&service.id) {
        if iteration.is_some() {
            if task.job_iteration != iteration {
                continue;
            }
            status.completed_tasks += u64::from(task.status.state == TaskState::Complete);
        }
        status.running_tasks += u64::from(is_running(store, task));
        wanted += u64::from(matches!(
            task.desired_state,
            TaskState::Ready | TaskState::Running | TaskState::Complete
        ));
    }
    status.desired_tasks = match service.spec.mode {
        ServiceMode::Replicated(mode) => mode.replicas.unwrap_or(1),
        ServiceMode::ReplicatedJob(job) => {
            job.max_concurrent.or(job.total_completions).unwrap_or(1)
        }
        ServiceMode::Global(_) | ServiceMode::GlobalJob(_) => wanted,
    };
    status
}
