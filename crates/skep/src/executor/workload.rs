//! The containers of tasks, found by their labels.

use futures::future::join_all;
use skep_engine::{Engine, EngineError, ErrorKind, Filters, ListOptions, RemoveOptions};
use skep_types::TaskId;

const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// Ids of containers whose labels fit.
async fn labelled(engine: &Engine, label: String) -> Result<Vec<String>, EngineError> {
    let filters = Filters::new().with("label", &label);
    let list =
        engine.container_list(ListOptions { all: true, filters, ..Default::default() }).await?;
    Ok(list.into_iter().filter_map(|container| container.id).collect())
}

/// The container that an earlier call, or an earlier daemon, made for the task.
pub async fn find(engine: &Engine, task: &TaskId) -> Result<Option<String>, EngineError> {
    Ok(labelled(engine, format!("{TASK_LABEL}={task}")).await?.into_iter().next())
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
    let containers = labelled(engine, TASK_LABEL.to_owned()).await?;
    let removals = containers.iter().map(|container| remove(engine, container));
    join_all(removals).await.into_iter().collect()
}
