use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use skep_types::{
    Config, ConfigId, NodeDescription, Secret, SecretId, Task, TaskId, TaskState, TaskStatus,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Executor;
use crate::board::Board;
use crate::db::{StoredTask, TaskDb};
use crate::dependencies::DependencyStore;
use crate::task::{Ended, Order, Runner, TaskEntry};

/// One change of this node's assignment.
#[derive(Debug)]
pub(crate) enum Change {
    PutTask(Box<Task>),
    /// A task that could not be understood, and why.
    RefuseTask(TaskId, String),
    RemoveTask(TaskId),
    PutSecret(Box<Secret>),
    RemoveSecret(SecretId),
    PutConfig(Box<Config>),
    RemoveConfig(ConfigId),
}

/// Keeps one state machine for each task assigned to this node.
pub(crate) struct Worker {
    tasks: Mutex<BTreeMap<TaskId, Slot>>,
    /// Counts complete assignments.
    complete: watch::Sender<u64>,
    /// Counts tasks that came, for log subscriptions that wait for them.
    arrivals: watch::Sender<u64>,
    executor: Arc<dyn Executor>,
    dependencies: DependencyStore,
    db: Arc<TaskDb>,
    board: Arc<Board>,
    runners: TaskTracker,
    stop: CancellationToken,
}

struct Slot {
    /// As last assigned.
    task: Arc<Task>,
    entry: Arc<TaskEntry>,
    removing: bool,
    /// The task as it was assigned again while its removal was under way: taken up after that. Hardly ever there, and
    /// large.
    next: Option<Box<Task>>,
}

/// A task as log subscriptions see it.
#[derive(Clone)]
pub(crate) struct TaskRef {
    pub task: Arc<Task>,
    pub entry: Arc<TaskEntry>,
}

impl Worker {
    /// Takes up the tasks found on disk; those no longer assigned are removed.
    pub(crate) fn new(
        executor: Arc<dyn Executor>,
        db: Arc<TaskDb>,
        board: Arc<Board>,
        stored: Vec<StoredTask>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let worker = Arc::new(Self {
            tasks: Mutex::default(),
            complete: watch::Sender::new(0),
            arrivals: watch::Sender::new(0),
            executor,
            dependencies: DependencyStore::default(),
            db,
            board,
            runners: TaskTracker::new(),
            stop,
        });
        for StoredTask { task, assigned } in stored {
            worker.board.set(task.id.clone(), task.status.clone());
            let id = task.id.clone();
            worker.spawn(&mut worker.lock(), task);
            if !assigned {
                worker.order_removal(&mut worker.lock(), &id);
            }
        }
        worker
    }

    /// Makes these the whole assignment: what is not among them is removed.
    pub(crate) fn replace(self: &Arc<Self>, changes: Vec<Change>) {
        let (mut secrets, mut configs, mut kept) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut tasks = Vec::new();
        for change in changes {
            match change {
                Change::PutSecret(secret) => secrets.push(*secret),
                Change::PutConfig(config) => configs.push(*config),
                Change::PutTask(task) => {
                    kept.insert(task.id.clone());
                    tasks.push(task);
                }
                Change::RefuseTask(id, reason) => {
                    kept.insert(id.clone());
                    self.refuse(id, reason);
                }
                Change::RemoveTask(_) | Change::RemoveSecret(_) | Change::RemoveConfig(_) => {}
            }
        }
        self.dependencies.replace(secrets, configs);
        let mut slots = self.lock();
        for task in tasks {
            self.put(&mut slots, *task);
        }
        let gone: Vec<TaskId> = slots.keys().filter(|id| !kept.contains(*id)).cloned().collect();
        for id in gone {
            self.order_removal(&mut slots, &id);
        }
        drop(slots);
        self.complete.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes parts of the assignment. Secrets and configs come first, whatever their place.
    pub(crate) fn change(self: &Arc<Self>, changes: Vec<Change>) {
        let mut later = Vec::new();
        for change in changes {
            match change {
                Change::PutSecret(secret) => self.dependencies.put_secret(*secret),
                Change::PutConfig(config) => self.dependencies.put_config(*config),
                Change::RemoveSecret(id) => self.dependencies.remove_secret(&id),
                Change::RemoveConfig(id) => self.dependencies.remove_config(&id),
                Change::RefuseTask(id, reason) => self.refuse(id, reason),
                task => later.push(task),
            }
        }
        let mut slots = self.lock();
        for change in later {
            match change {
                Change::PutTask(task) => self.put(&mut slots, *task),
                Change::RemoveTask(id) => self.order_removal(&mut slots, &id),
                _ => {}
            }
        }
    }

    /// The tasks that are here now.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        self.lock()
            .values()
            .map(|slot| TaskRef { task: slot.task.clone(), entry: slot.entry.clone() })
            .collect()
    }

    /// Whether a task has a state machine here, one that removes it included.
    pub(crate) fn knows(&self, task: &TaskId) -> bool {
        self.lock().contains_key(task)
    }

    /// Counts the complete assignments so far.
    pub(crate) fn complete_assignments(&self) -> watch::Receiver<u64> {
        self.complete.subscribe()
    }

    /// Changes whenever a task comes.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Waits until every state machine has stopped. The token given to [`Worker::new`] must be
    /// cancelled.
    pub(crate) async fn stopped(&self) {
        self.runners.close();
        self.runners.wait().await;
        self.db.flush().await;
    }

    fn put(self: &Arc<Self>, slots: &mut BTreeMap<TaskId, Slot>, mut task: Task) {
        let Some(slot) = slots.get_mut(&task.id) else {
            self.db.assign(task.clone());
            self.spawn(slots, task);
            return;
        };
        if slot.removing {
            tracing::info!(task = %task.id, "a task that is being removed was assigned again");
            slot.next = Some(Box::new(task));
            return;
        }
        // Our status is newer than the manager's, and desired states only go forward.
        task.status = slot.task.status.clone();
        task.desired_state = task.desired_state.max(slot.task.desired_state);
        if *slot.task == task {
            return;
        }
        self.db.assign(task.clone());
        slot.task = Arc::new(task);
        slot.entry.orders.send_replace(Order::Run(slot.task.clone()));
    }

    fn spawn(self: &Arc<Self>, slots: &mut BTreeMap<TaskId, Slot>, task: Task) {
        let task = Arc::new(task);
        let id = task.id.clone();
        let (orders, receiver) = watch::channel(Order::Run(task.clone()));
        let entry = Arc::new(TaskEntry {
            orders,
            status: watch::Sender::new(task.status.clone()),
            controller: OnceLock::new(),
        });
        let slot = Slot { task: task.clone(), entry: entry.clone(), removing: false, next: None };
        slots.insert(id.clone(), slot);
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
        let runner = Runner {
            id: id.clone(),
            entry,
            orders: receiver,
            executor: self.executor.clone(),
            dependencies: self.dependencies.clone(),
            db: self.db.clone(),
            board: self.board.clone(),
            node: NodeDescription::default(),
            trouble: Mutex::default(),
            stop: self.stop.clone(),
        };
        let worker = Arc::downgrade(self);
        self.runners.spawn(async move {
            if runner.run(task).await == Ended::Removed
                && let Some(worker) = worker.upgrade()
            {
                tracing::info!(task = %id, "task removed");
                let mut slots = worker.lock();
                if let Some(next) = slots.remove(&id).and_then(|slot| slot.next) {
                    worker.put(&mut slots, *next);
                }
            }
        });
    }

    fn order_removal(&self, slots: &mut BTreeMap<TaskId, Slot>, id: &TaskId) {
        let Some(slot) = slots.get_mut(id) else {
            // Perhaps one that was refused.
            self.board.remove(id);
            return;
        };
        slot.next = None;
        if !slot.removing {
            slot.removing = true;
            self.db.unassign(id.clone());
            slot.entry.orders.send_replace(Order::Remove);
        }
    }

    fn refuse(&self, id: TaskId, reason: String) {
        tracing::error!(task = %id, reason, "cannot understand a task");
        let status = TaskStatus {
            timestamp: crate::now(),
            state: TaskState::Rejected,
            err: reason,
            ..TaskStatus::default()
        };
        self.board.set(id, status);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Slot>> {
        // Every critical section leaves the map whole.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
