//! State machines of tasks, on a clock that jumps.

use std::sync::Arc;
use std::time::Duration;

use skep_types::{Task, TaskId, TaskState, TaskStatus};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fake::{Container, FakeExecutor, container_task};
use super::until;
use crate::ExecError;
use crate::board::Board;
use crate::db::TaskDb;
use crate::worker::{Change, Worker};

struct Host {
    executor: FakeExecutor,
    board: Arc<Board>,
    worker: Arc<Worker>,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Host {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap(), FakeExecutor::default())
    }

    fn on(folder: tempfile::TempDir, executor: FakeExecutor) -> Self {
        let (db, stored) = TaskDb::open(folder.path()).unwrap();
        let board = Arc::new(Board::default());
        let stop = CancellationToken::new();
        let worker = Worker::new(
            Arc::new(executor.clone()),
            Arc::new(db),
            board.clone(),
            stored,
            stop.clone(),
        );
        Self { executor, board, worker, folder, stop }
    }

    /// Stops the agent and starts another on the same disk and the same containers.
    async fn restart(self) -> Self {
        let Self { executor, worker, folder, stop, .. } = self;
        stop.cancel();
        worker.stopped().await;
        drop(worker);
        executor.change(|state| state.calls.clear());
        Self::on(folder, executor)
    }

    fn put(&self, task: Task) {
        self.worker.change(vec![Change::PutTask(Box::new(task))]);
    }

    fn status(&self, id: &str) -> Option<TaskStatus> {
        let reports = self.board.unconfirmed(100);
        reports.into_iter().find(|report| report.task.as_str() == id).map(|report| report.status)
    }

    async fn reaches(&self, id: &str, state: TaskState) -> TaskStatus {
        until(
            &format!("{id} {state}"),
            || self.status(id).filter(|status| status.state == state),
            || format!("{:?}, calls {:?}", self.status(id), self.executor.calls()),
        )
        .await
    }

    async fn gone(&self, id: &str) {
        until(
            &format!("{id} gone"),
            || (self.status(id).is_none() && self.worker.tasks().is_empty()).then_some(()),
            || format!("{:?}, calls {:?}", self.status(id), self.executor.calls()),
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_and_completes() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    let running = host.reaches("t", TaskState::Running).await;
    assert_eq!(running.message, "started");
    assert_eq!(running.container_status.unwrap().pid, 42);
    assert_eq!(running.port_status.ports[0].published_port, 32768);
    assert!(!running.timestamp.is_zero());

    host.executor.exit("t", 0);
    let complete = host.reaches("t", TaskState::Complete).await;
    assert_eq!(complete.message, "finished");
    assert_eq!(complete.err, "");
    assert_eq!(host.executor.calls(), ["prepare t", "start t", "wait t"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_goes_while_it_cannot_be_taken_up_leaves_no_container() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    let executor = host.executor.clone();
    for _ in 0..3 {
        executor.fail_next("controller t", ExecError::temporary("describe this host", "busy"));
    }
    let host = host.restart().await;
    host.worker.replace(Vec::new());
    host.gone("t").await;
    assert!(executor.state().containers.is_empty());
    assert_eq!(executor.count("remove t"), 1);
}

#[tokio::test(start_paused = true)]
async fn containers_of_unknown_tasks_are_removed_until_they_are_gone() {
    let host = Host::new();
    let ghosts = ["g", "h"].map(TaskId::from);
    host.executor.change(|state| {
        state.containers = ghosts.clone().map(|ghost| (ghost, Container::default())).into();
    });
    host.executor.fail_next("stray g", ExecError::temporary("remove it", "busy"));
    let sweeping = tokio::spawn(crate::strays::follow(
        Arc::new(host.executor.clone()),
        host.worker.clone(),
        host.stop.clone(),
    ));
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    // What a manager has not said may only be forgotten by this node.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(host.executor.state().containers.len(), 3);
    host.worker.replace(vec![Change::PutTask(Box::new(container_task("t", TaskState::Running)))]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    until(
        "only known containers",
        || (host.executor.state().containers.len() == 1).then_some(()),
        || format!("{:?}", host.executor.calls()),
    )
    .await;
    assert!(host.executor.state().containers.contains_key(&TaskId::from("t")));
    assert_eq!((host.executor.count("stray g"), host.executor.count("stray h")), (2, 1));
    host.stop.cancel();
    sweeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_fails_the_task() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    host.executor.exit("t", 3);
    let failed = host.reaches("t", TaskState::Failed).await;
    assert_eq!(failed.err, "task: non-zero exit (3)");
    assert_eq!(failed.message, "started");
    assert_eq!(failed.container_status.unwrap().exit_code, 3);
}

#[tokio::test(start_paused = true)]
async fn a_running_task_says_what_is_wrong_until_it_is_not() {
    let host = Host::new();
    let says = async |text: &'static str| {
        host.executor.change(|state| state.troubles.insert("t".into(), text.to_owned()));
        until(
            &format!("the status to say {text:?}"),
            || host.status("t").filter(|s| s.err == text && s.state == TaskState::Running),
            || format!("{:?}", host.status("t")),
        )
        .await
    };
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    says("port 80 is taken").await;
    says("port 80 is taken by nginx").await;
    let well = says("").await;
    assert_eq!(well.message, "started");
    says("port 80 is taken").await;
    assert_eq!(host.executor.count("wait t"), 1, "the wait goes on");
    host.executor.exit("t", 0);
    assert_eq!(host.reaches("t", TaskState::Complete).await.err, "");
}

#[tokio::test(start_paused = true)]
async fn an_error_before_starting_rejects_and_shows_its_causes() {
    let host = Host::new();
    host.executor.fail_next("prepare t", ExecError::fatal("pull image nope", "not found"));
    host.put(container_task("t", TaskState::Running));
    let rejected = host.reaches("t", TaskState::Rejected).await;
    assert_eq!(rejected.err, "pull image nope: not found");
    assert_eq!(rejected.message, "preparing");
    assert!(rejected.container_status.is_none());

    host.executor.fail_next(
        "start u",
        ExecError::Exit { code: 1, cause: Some("unhealthy container".into()) },
    );
    host.put(container_task("u", TaskState::Running));
    let failed = host.reaches("u", TaskState::Failed).await;
    assert_eq!(failed.err, "task: non-zero exit (1): unhealthy container");
}

#[tokio::test(start_paused = true)]
async fn a_temporary_error_is_tried_again_each_second() {
    let host = Host::new();
    for _ in 0..3 {
        host.executor.fail_next("prepare t", ExecError::temporary("pull image x", "no route"));
    }
    let start = Instant::now();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    assert_eq!(host.executor.count("prepare t"), 4);
    let taken = start.elapsed();
    assert!(taken >= Duration::from_secs(3) && taken < Duration::from_secs(4), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_while_it_is_wanted_ready() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Ready));
    let ready = host.reaches("t", TaskState::Ready).await;
    assert_eq!(ready.message, "prepared");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(host.executor.calls(), ["prepare t"]);
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_interrupts_whatever_goes_on() {
    for held in ["prepare t", "start t", "wait t"] {
        let host = Host::new();
        host.executor.change(|state| state.held.push(held.to_owned()));
        host.put(container_task("t", TaskState::Running));
        until(
            held,
            || (host.executor.count(held) == 1).then_some(()),
            || format!("{:?}", host.executor.calls()),
        )
        .await;
        host.put(container_task("t", TaskState::Shutdown));
        let status = host.reaches("t", TaskState::Shutdown).await;
        assert_eq!(status.message, "shutdown");
        assert_eq!(host.executor.calls().last().map(String::as_str), Some("shutdown t"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_no_stop_reaches_the_controller_without_interrupting() {
    let host = Host::new();
    host.executor.change(|state| state.held.push("prepare t".to_owned()));
    host.put(container_task("t", TaskState::Ready));
    until("prepare", || (host.executor.count("prepare t") == 1).then_some(()), String::new).await;
    host.put(container_task("t", TaskState::Running));
    until(
        "update",
        || (host.executor.count("update to running t") == 1).then_some(()),
        || format!("{:?}", host.executor.calls()),
    )
    .await;
    host.executor.change(|state| state.held.clear());
    host.reaches("t", TaskState::Running).await;
    assert_eq!(host.executor.count("prepare t"), 1);
}

#[tokio::test(start_paused = true)]
async fn desired_state_does_not_go_back() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    host.put(container_task("t", TaskState::Shutdown));
    host.reaches("t", TaskState::Shutdown).await;
    host.put(container_task("t", TaskState::Running));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(host.status("t").unwrap().state, TaskState::Shutdown);
    assert_eq!(host.executor.count("start t"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_no_longer_assigned_is_stopped_removed_and_forgotten() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    host.executor.fail_next("shutdown t", ExecError::temporary("stop", "busy"));
    host.executor.fail_next("remove t", ExecError::fatal("remove", "device busy"));
    host.worker.change(vec![Change::RemoveTask("t".into())]);
    host.gone("t").await;
    let calls = host.executor.calls();
    let tail: Vec<&str> = calls.iter().skip(3).map(String::as_str).collect();
    assert_eq!(tail, ["shutdown t", "shutdown t", "remove t", "remove t", "close t"]);
    let host = host.restart().await;
    assert!(host.worker.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn removal_waits_for_a_stop_that_is_under_way() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    host.executor.change(|state| state.held.push("shutdown t".to_owned()));
    host.put(container_task("t", TaskState::Shutdown));
    until("shutdown", || (host.executor.count("shutdown t") == 1).then_some(()), String::new).await;
    host.worker.change(vec![Change::RemoveTask("t".into())]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(host.executor.count("remove t"), 0);
    host.executor.change(|state| state.held.clear());
    host.gone("t").await;
    assert_eq!(host.executor.count("shutdown t"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_assigned_again_while_it_is_removed_comes_back() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    host.executor.change(|state| state.held.push("remove t".to_owned()));
    host.worker.change(vec![Change::RemoveTask("t".into())]);
    until("removal", || (host.executor.count("remove t") == 1).then_some(()), String::new).await;
    host.put(container_task("t", TaskState::Running));
    host.executor.change(|state| state.held.clear());
    until("second start", || (host.executor.count("start t") == 2).then_some(()), String::new)
        .await;
    host.reaches("t", TaskState::Running).await;
    let host = host.restart().await;
    host.reaches("t", TaskState::Running).await;

    // Taken away again meanwhile, it stays away.
    host.executor.change(|state| state.held.push("remove t".to_owned()));
    host.worker.change(vec![Change::RemoveTask("t".into())]);
    until("removal", || (host.executor.count("remove t") == 1).then_some(()), String::new).await;
    host.put(container_task("t", TaskState::Running));
    host.worker.change(vec![Change::RemoveTask("t".into())]);
    host.executor.change(|state| state.held.clear());
    host.gone("t").await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_assignment_removes_what_it_does_not_list() {
    let host = Host::new();
    host.put(container_task("old", TaskState::Running));
    host.reaches("old", TaskState::Running).await;
    let kept = Change::PutTask(Box::new(container_task("new", TaskState::Running)));
    host.worker.replace(vec![kept]);
    host.reaches("new", TaskState::Running).await;
    until("old gone", || host.status("old").is_none().then_some(()), String::new).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_up_running_containers_without_touching_them() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    let host = host.restart().await;
    assert_eq!(host.status("t").unwrap().state, TaskState::Running, "reported again");
    until("wait", || (host.executor.count("wait t") == 1).then_some(()), String::new).await;
    assert_eq!(host.executor.calls(), ["wait t"]);
    host.executor.exit("t", 137);
    assert_eq!(host.reaches("t", TaskState::Failed).await.err, "task: non-zero exit (137)");
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_goes_on_with_what_is_there() {
    for held in ["prepare t", "start t"] {
        let host = Host::new();
        host.executor.change(|state| state.held.push(held.to_owned()));
        host.put(container_task("t", TaskState::Running));
        until(held, || (host.executor.count(held) == 1).then_some(()), String::new).await;
        // What was under way got done, but nobody noted it.
        host.executor.change(|state| {
            let container = state.containers.entry("t".into()).or_default();
            container.started = held == "start t";
            state.held.clear();
        });
        let host = host.restart().await;
        host.reaches("t", TaskState::Running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_the_agent_leaves_containers_alone() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    host.executor.change(|state| state.calls.clear());
    host.stop.cancel();
    host.worker.stopped().await;
    assert_eq!(host.executor.calls(), ["close t"]);
    assert!(host.executor.state().containers["t"].exit.is_none());
}

#[tokio::test(start_paused = true)]
async fn removal_goes_on_after_a_restart() {
    let host = Host::new();
    host.put(container_task("t", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    host.executor.change(|state| state.held.push("shutdown t".to_owned()));
    host.worker.change(vec![Change::RemoveTask("t".into())]);
    until("shutdown", || (host.executor.count("shutdown t") == 1).then_some(()), String::new).await;
    let host = host.restart().await;
    host.executor.change(|state| state.held.clear());
    host.gone("t").await;
    assert!(host.executor.state().containers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_this_node_cannot_run_is_rejected_and_leaves_when_removed() {
    let host = Host::new();
    let mut task = container_task("t", TaskState::Running);
    task.spec.container_spec = None;
    task.spec.runtime = "plugin".to_owned();
    host.put(task);
    let rejected = host.reaches("t", TaskState::Rejected).await;
    assert!(rejected.err.contains("plugin"), "{}", rejected.err);
    host.worker.change(vec![Change::RemoveTask("t".into())]);
    host.gone("t").await;
}

#[tokio::test(start_paused = true)]
async fn templates_are_filled_in_before_the_executor_sees_the_task() {
    let host = Host::new();
    host.executor.change(|state| state.description.hostname = "host1".to_owned());
    let mut task = container_task("t", TaskState::Running);
    let container = task.spec.container_spec.as_mut().unwrap();
    container.hostname = "{{.Service.Name}}-{{.Task.Slot}}-{{.Node.Hostname}}".to_owned();
    host.put(task.clone());
    host.reaches("t", TaskState::Running).await;
    let made = host.executor.state().made[0].clone();
    assert_eq!(made.spec.container_spec.unwrap().hostname, "web-1-host1");

    task.id = "u".into();
    task.spec.container_spec.as_mut().unwrap().hostname = "{{nonsense}}".to_owned();
    host.put(task);
    let rejected = host.reaches("u", TaskState::Rejected).await;
    assert!(rejected.err.contains("nonsense"), "{}", rejected.err);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_cannot_be_made_yet_is_asked_for_again() {
    let host = Host::new();
    host.executor.fail_next("controller t", ExecError::temporary("open", "starting up"));
    host.executor.fail_next("controller u", ExecError::refused("no such isolation"));
    host.put(container_task("t", TaskState::Running));
    host.put(container_task("u", TaskState::Running));
    host.reaches("t", TaskState::Running).await;
    assert_eq!(host.reaches("u", TaskState::Rejected).await.err, "no such isolation");
}
