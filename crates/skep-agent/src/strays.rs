//! Containers of tasks that nobody knows any more.
//!
//! Each task's state machine removes its own container. What is left all the same (a task database that
//! was made anew, a removal that a crash cut in two) belongs to no state machine; so containers are
//! compared with tasks again and again, not only when something is known to have gone wrong.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use skep_types::{TaskId, report};
use tokio_util::sync::CancellationToken;

use crate::Executor;
use crate::worker::Worker;

/// How often containers are compared with tasks.
const PERIOD: Duration = Duration::from_secs(30);
/// How many are removed at a time: tasks have work of their own meanwhile.
const AT_ONCE: usize = 8;

/// Removes containers of unknown tasks until the agent stops.
///
/// It begins with the first complete assignment. Before that a container without a task may as well be
/// one whose task the disk forgot, and a node without a manager changes nothing.
pub(crate) async fn follow(
    executor: Arc<dyn Executor>,
    worker: Arc<Worker>,
    stop: CancellationToken,
) {
    let work = async {
        let mut assignments = worker.complete_assignments();
        // Fails only without the worker.
        while assignments.wait_for(|count| *count > 0).await.is_ok() {
            sweep(&*executor, &worker).await;
            tokio::select! {
                _ = assignments.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Compares once. What cannot be removed now is found again the next time.
async fn sweep(executor: &dyn Executor, worker: &Worker) {
    let found = match executor.task_containers().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = report(&error), "cannot look for containers without a task");
            return;
        }
    };
    // In this order: a task is known before its container is made.
    let strays: Vec<TaskId> = found.into_iter().filter(|task| !worker.knows(task)).collect();
    let removals = futures::stream::iter(strays).for_each_concurrent(AT_ONCE, |task| async move {
        // It may have been assigned while others were removed.
        if worker.knows(&task) {
            return;
        }
        tracing::warn!(%task, "removing the container of a task that is not assigned to this node");
        if let Err(error) = executor.remove_stray(&task).await {
            tracing::warn!(
                %task,
                error = report(&error),
                "cannot remove a container without a task, will be tried again"
            );
        }
    });
    removals.await;
}
