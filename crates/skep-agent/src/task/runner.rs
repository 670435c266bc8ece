use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use skep_types::{NodeDescription, Repeated, Task, TaskId, TaskState, TaskStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::step::{Step, Work, next_step, state_after_error};
use crate::board::Board;
use crate::db::TaskDb;
use crate::dependencies::DependencyStore;
use crate::{Controller, ExecError, Executor, template};
use skep_types::report;

/// Pause after a temporary error.
const RETRY: Duration = Duration::from_secs(1);

/// Pauses between tries to remove a container grow up to this.
const MAX_REMOVE_PAUSE: Duration = Duration::from_secs(30);

/// What the manager wants of a task on this node. The last one counts.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Run(Arc<Task>),
    /// The task is no longer assigned.
    Remove,
}

/// What others see of a running state machine.
pub(crate) struct TaskEntry {
    pub orders: watch::Sender<Order>,
    pub status: watch::Sender<TaskStatus>,
    /// Set once the executor has made it; never, if it refused.
    pub controller: OnceLock<Arc<dyn Controller>>,
}

/// One task's state machine.
///
/// It works through [`next_step`] until the task has ended and rests until it is removed. Each state
/// is on its way to the disk and the manager before work for the next one begins.
pub(crate) struct Runner {
    pub id: TaskId,
    pub entry: Arc<TaskEntry>,
    pub orders: watch::Receiver<Order>,
    pub executor: Arc<dyn Executor>,
    pub dependencies: DependencyStore,
    pub db: Arc<TaskDb>,
    pub board: Arc<Board>,
    /// What templates may refer to, and no more; as it is when the task is taken up.
    pub node: NodeDescription,
    /// What is tried again and again.
    pub trouble: Mutex<Repeated>,
    /// The agent is stopping: leave everything as it is.
    pub stop: CancellationToken,
}

/// How a state machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The container is gone and the task forgotten.
    Removed,
    /// The agent is stopping.
    Stopped,
}

/// What came of a piece of work.
enum Outcome {
    Done(Result<(), ExecError>),
    /// A new order made it pointless.
    Interrupted,
    Stopped,
}

impl Runner {
    /// Runs until the task is removed or the agent stops. `last` is the task as last assigned, with
    /// its last known status.
    pub(crate) async fn run(mut self, last: Arc<Task>) -> Ended {
        // What is done once is not held room for while a task runs, here and below: there may be hundreds.
        let made = Box::pin(self.make_controller(&last)).await;
        let ended = match made {
            Ok(controller) => {
                let ended = self.drive(&*controller, last).await;
                if let Err(error) = controller.close().await {
                    self.warn("cannot close the task's controller", &error);
                }
                ended
            }
            Err(ended) => ended,
        };
        if ended == Ended::Removed {
            self.db.remove(self.id.clone());
            self.board.remove(&self.id);
        }
        ended
    }

    /// Asks the executor for a controller. After a refusal, which the task's status then says, this
    /// only waits for the end.
    async fn make_controller(&mut self, task: &Arc<Task>) -> Result<Arc<dyn Controller>, Ended> {
        loop {
            let stop = self.stop.clone();
            let made = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Ended::Stopped),
                made = self.try_make_controller(task) => made,
            };
            match made {
                Ok(controller) => {
                    let controller: Arc<dyn Controller> = controller.into();
                    return Ok(self.entry.controller.get_or_init(|| controller).clone());
                }
                Err(error @ ExecError::Temporary { .. }) => {
                    self.warn("cannot take the task up, will be tried again", &error);
                    if !self.sleep(RETRY).await {
                        return Err(Ended::Stopped);
                    }
                }
                Err(error) => {
                    self.end_with_error(&error, None).await;
                    return Err(self.wait_for_removal().await);
                }
            }
            // Nothing was made for it yet; else there is a container to remove, now or before a restart.
            if self.is_removed() && self.state() < TaskState::Preparing {
                return Err(Ended::Removed);
            }
        }
    }

    fn is_removed(&self) -> bool {
        matches!(*self.orders.borrow(), Order::Remove)
    }

    async fn try_make_controller(
        &mut self,
        task: &Arc<Task>,
    ) -> Result<Box<dyn Controller>, ExecError> {
        let spec = &task.spec;
        if spec.container_spec.is_none() && spec.network_attachment_spec.is_none() {
            let reason = format!("tasks of runtime {:?} do not run on this node", spec.runtime);
            return Err(ExecError::refused(reason));
        }
        let NodeDescription { hostname, platform, .. } = self.executor.describe().await?;
        self.node = NodeDescription { hostname, platform, ..NodeDescription::default() };
        let expanded = fill_in(task, &self.node)?;
        self.executor.controller(&expanded, &self.dependencies.of(task, &self.node)).await
    }

    async fn wait_for_removal(&mut self) -> Ended {
        loop {
            if self.is_removed() {
                return Ended::Removed;
            }
            if !self.order_changed().await {
                return Ended::Stopped;
            }
        }
    }

    /// Works until the task is removed or the agent stops.
    async fn drive(&mut self, controller: &dyn Controller, mut task: Arc<Task>) -> Ended {
        loop {
            let order = self.orders.borrow_and_update().clone();
            match order {
                Order::Remove => return Box::pin(self.remove(controller)).await,
                Order::Run(newer) => {
                    Box::pin(self.take_update(controller, &mut task, newer)).await;
                }
            }
            let state = self.state();
            let (work, next, message) = match next_step(task.desired_state, state) {
                Step::Rest => {
                    if !self.order_changed().await {
                        return Ended::Stopped;
                    }
                    continue;
                }
                Step::Note { next, message } => {
                    Box::pin(self.advance(next, message, Some(controller))).await;
                    continue;
                }
                Step::Do { work, next, message } => (work, next, message),
            };
            match self.perform(controller, work, &mut task).await {
                Outcome::Interrupted => {}
                Outcome::Stopped => return Ended::Stopped,
                Outcome::Done(
                    Ok(()) | Err(ExecError::AlreadyPrepared | ExecError::AlreadyStarted),
                ) => Box::pin(self.advance(next, message, Some(controller))).await,
                Outcome::Done(Err(error @ ExecError::Temporary { .. })) => {
                    self.warn("will be tried again", &error);
                    if !self.pause(RETRY).await {
                        return Ended::Stopped;
                    }
                }
                Outcome::Done(Err(error)) => {
                    Box::pin(self.end_with_error(&error, Some(controller))).await;
                }
            }
        }
    }

    /// Does one piece of work; meanwhile takes orders, and drops the work if they make it pointless.
    async fn perform(
        &mut self,
        controller: &dyn Controller,
        work: Work,
        task: &mut Arc<Task>,
    ) -> Outcome {
        let stop = self.stop.clone();
        let mut doing = match work {
            Work::Prepare => controller.prepare(),
            Work::Start => controller.start(),
            Work::Wait => controller.wait(),
            Work::Shutdown => controller.shutdown(),
        };
        loop {
            let told = self.entry.status.borrow().err.clone();
            let newer = tokio::select! {
                biased;
                () = stop.cancelled() => return Outcome::Stopped,
                done = &mut doing => return Outcome::Done(done),
                trouble = controller.trouble(&told), if work == Work::Wait => {
                    Box::pin(self.note_trouble(trouble, controller)).await;
                    continue;
                }
                Ok(()) = self.orders.changed() => self.orders.borrow_and_update().clone(),
            };
            match newer {
                // A stop that is under way goes on; removal comes after it.
                Order::Remove if work != Work::Shutdown => {
                    self.orders.mark_changed();
                    return Outcome::Interrupted;
                }
                Order::Remove => {}
                Order::Run(newer) => {
                    Box::pin(self.take_update(controller, task, newer)).await;
                    if task.desired_state >= TaskState::Shutdown && work != Work::Shutdown {
                        return Outcome::Interrupted;
                    }
                }
            }
        }
    }

    /// Takes over a newer form of the task. Its desired state never goes back.
    async fn take_update(
        &self,
        controller: &dyn Controller,
        task: &mut Arc<Task>,
        newer: Arc<Task>,
    ) {
        if Arc::ptr_eq(task, &newer) {
            return;
        }
        if newer.desired_state != task.desired_state {
            tracing::info!(
                task = %self.id,
                state = %self.state(),
                from = %task.desired_state,
                to = %newer.desired_state,
                "desired state changed"
            );
        }
        *task = newer;
        let result = match fill_in(task, &self.node) {
            Ok(expanded) => controller.update(&expanded).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.warn("cannot update the task", &error);
        }
    }

    /// Stops and removes the container, trying again until it is gone or the agent stops.
    async fn remove(&mut self, controller: &dyn Controller) -> Ended {
        if !self.state().is_terminal() {
            loop {
                let stop = self.stop.clone();
                let result = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ended::Stopped,
                    result = controller.shutdown() => result,
                };
                match result {
                    Err(error @ ExecError::Temporary { .. }) => {
                        self.warn("cannot stop the container, will be tried again", &error);
                        if !self.sleep(RETRY).await {
                            return Ended::Stopped;
                        }
                    }
                    // Removing stops it too, less gently.
                    Err(error) => break self.warn("cannot stop the container", &error),
                    Ok(()) => break,
                }
            }
        }
        let mut pause = RETRY;
        loop {
            let stop = self.stop.clone();
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return Ended::Stopped,
                result = controller.remove() => result,
            };
            match result {
                Ok(()) => return Ended::Removed,
                Err(error) => self.warn("cannot remove the container, will be tried again", &error),
            }
            if !self.sleep(pause).await {
                return Ended::Stopped;
            }
            pause = (pause * 2).min(MAX_REMOVE_PAUSE);
        }
    }

    fn state(&self) -> TaskState {
        self.entry.status.borrow().state
    }

    /// Ends the task: rejected if it had not begun to start, else failed.
    async fn end_with_error(&self, error: &ExecError, controller: Option<&dyn Controller>) {
        if self.state().is_terminal() {
            return;
        }
        let mut status = self.entry.status.borrow().clone();
        status.state = state_after_error(status.state);
        status.err = report(error);
        self.publish(status, controller).await;
    }

    /// Says, or takes back, what is wrong with a task that goes on running.
    async fn note_trouble(&self, trouble: String, controller: &dyn Controller) {
        let mut status = self.entry.status.borrow().clone();
        status.err = trouble;
        self.publish(status, Some(controller)).await;
    }

    async fn advance(
        &self,
        next: TaskState,
        message: &'static str,
        controller: Option<&dyn Controller>,
    ) {
        let mut status = self.entry.status.borrow().clone();
        status.state = next;
        message.clone_into(&mut status.message);
        status.err.clear();
        self.publish(status, controller).await;
    }

    /// Puts a new status on its way to the disk and the manager.
    async fn publish(&self, mut status: TaskStatus, controller: Option<&dyn Controller>) {
        if let Some(controller) = controller
            && status.state >= TaskState::Starting
            && status.state != TaskState::Rejected
        {
            // A container that is gone keeps its last known id and exit code.
            if let Some(container) = controller.container_status().await {
                status.container_status = Some(container);
            }
            if let Some(ports) = controller.port_status().await {
                status.port_status = ports;
            }
        }
        status.timestamp = crate::now();
        let from = self.state();
        tracing::info!(
            task = %self.id,
            %from,
            to = %status.state,
            error = status.err,
            "task state changed"
        );
        self.db.status(self.id.clone(), status.clone());
        self.board.set(self.id.clone(), status.clone());
        self.entry.status.send_replace(status);
    }

    /// Waits for another order. False when the agent stops.
    async fn order_changed(&mut self) -> bool {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            changed = self.orders.changed() => changed.is_ok(),
        }
    }

    /// Waits this long, or until another order. False when the agent stops.
    async fn pause(&mut self, time: Duration) -> bool {
        tokio::select! {
            go_on = self.order_changed() => {
                self.orders.mark_changed();
                go_on
            }
            () = tokio::time::sleep(time) => true,
        }
    }

    /// Waits this long. False when the agent stops.
    async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    fn warn(&self, message: &'static str, error: &ExecError) {
        let error = report(error);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = trouble.failed(Instant::now(), &format!("{message}: {error}")) {
            tracing::warn!(task = %self.id, error, failures, message);
        }
    }
}

/// The task with its templates filled in: the same one where there are none.
fn fill_in(task: &Arc<Task>, node: &NodeDescription) -> Result<Arc<Task>, ExecError> {
    let expanded = template::expand(task, node)
        .map_err(|error| ExecError::fatal("fill in the templates of the task", error))?;
    Ok(if expanded == **task { Arc::clone(task) } else { Arc::new(expanded) })
}
