//! The containers of tasks, found by their labels.

use std::collections::HashSet;

use futures::future::join_all;
use skep_engine::{Engine, EngineError, ErrorKind, Labelled, RemoveOptions};
use skep_types::TaskId;

const TASK_LABEL: &str = "com.docker.swarm.task.id";
const TASK_NAME_LABEL: &str = "com.docker.swarm.task.name";

/// The container that an earlier call, or an earlier daemon, made for the task.
pub fn find(engine: &Engine, task: &TaskId) -> Option<String> {
    of_tasks(engine, Some(task)).into_iter().next().map(|container| container.id)
}

/// Tasks that have containers here.
pub fn tasks(engine: &Engine) -> Vec<TaskId> {
    let containers = of_tasks(engine, None).into_iter();
    containers.map(|container| TaskId::from(container.value.as_str())).collect()
}

/// The containers of this task, or of all; the value is the task's id. A container counts only if its name
/// is the one its task gave it too: labels alone may have been copied to a container of a user's.
fn of_tasks(engine: &Engine, task: Option<&TaskId>) -> Vec<Labelled> {
    let named = engine.containers_labelled(TASK_NAME_LABEL, None);
    let named = named.into_iter().filter(|container| container.name == container.value);
    let ours: HashSet<String> = named.map(|container| container.id).collect();
    let labelled = engine.containers_labelled(TASK_LABEL, task.map(TaskId::as_str)).into_iter();
    labelled.filter(|container| ours.contains(&container.id)).collect()
}

/// Removes a container with its anonymous volumes, running or not. One that is gone is no error.
pub async fn remove(engine: &Engine, container: &str) -> Result<(), EngineError> {
    let options = RemoveOptions { force: true, volumes: true, ..Default::default() };
    match engine.container_remove(container, options).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes every task's container. All are tried; the first failure is returned.
pub async fn remove_all(engine: &Engine) -> Result<(), EngineError> {
    let containers = of_tasks(engine, None);
    let removals = containers.iter().map(|container| remove(engine, &container.id));
    join_all(removals).await.into_iter().collect()
}
