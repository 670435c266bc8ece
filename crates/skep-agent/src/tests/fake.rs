//! An executor whose containers are entries in a map.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures::StreamExt as _;
use skep_types::{
    ContainerSpec, ContainerStatus, EncryptionKey, Node, NodeDescription, PortConfig, PortStatus,
    Task, TaskId, TaskState,
};
use tokio::sync::watch;

use crate::{
    Controller, Dependencies, ExecError, Executor, LogOptions, LogRecord, LogSource, LogStream,
    ManagerAddress,
};

#[derive(Clone, Default)]
pub(super) struct FakeExecutor {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Changes with the state.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct State {
    /// Everything that was asked of controllers, as in `prepare t1`.
    pub calls: Vec<String>,
    pub containers: BTreeMap<TaskId, Container>,
    /// What is wrong with running tasks.
    pub troubles: BTreeMap<TaskId, String>,
    /// Errors that the next calls answer, by call as in `prepare t1`.
    pub errors: BTreeMap<String, VecDeque<ExecError>>,
    /// Calls that do not come back until taken out.
    pub held: Vec<String>,
    pub configured: Vec<Node>,
    pub keys: Vec<Vec<EncryptionKey>>,
    pub description: NodeDescription,
    /// Tasks as they were given to the executor.
    pub made: Vec<Task>,
    pub log_options: Vec<LogOptions>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Container {
    pub started: bool,
    pub exit: Option<i32>,
}

impl FakeExecutor {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Changes the state and wakes everybody who waits for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.shared.changed.send_modify(|count| *count += 1);
        result
    }

    pub(super) fn exit(&self, task: &str, code: i32) {
        self.change(|state| {
            state.containers.get_mut(&TaskId::from(task)).expect("container").exit = Some(code);
        });
    }

    pub(super) fn fail_next(&self, call: &str, error: ExecError) {
        self.change(|state| state.errors.entry(call.to_owned()).or_default().push_back(error));
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    pub(super) fn count(&self, call: &str) -> usize {
        self.state().calls.iter().filter(|made| *made == call).count()
    }

    async fn wait_for<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(value) = ready(&mut self.state()) {
                return value;
            }
            changed.changed().await.expect("the sender is shared");
        }
    }
}

pub(super) fn container_task(id: &str, desired: TaskState) -> Task {
    let mut task = Task {
        id: id.into(),
        service_id: "service".into(),
        node_id: "node".into(),
        slot: 1,
        desired_state: desired,
        ..Task::default()
    };
    task.status.state = TaskState::Assigned;
    task.service_annotations.name = "web".to_owned();
    task.spec.container_spec =
        Some(ContainerSpec { image: "nginx".to_owned(), ..ContainerSpec::default() });
    task
}

#[async_trait]
impl Executor for FakeExecutor {
    async fn describe(&self) -> Result<NodeDescription, ExecError> {
        Ok(self.state().description.clone())
    }

    async fn configure(&self, node: &Node) -> Result<(), ExecError> {
        self.change(|state| {
            if let Some(error) = next_error(state, "configure") {
                return Err(error);
            }
            state.configured.push(node.clone());
            Ok(())
        })
    }

    async fn set_network_keys(
        &self,
        keys: &[EncryptionKey],
        _managers: &[ManagerAddress],
    ) -> Result<(), ExecError> {
        self.change(|state| state.keys.push(keys.to_vec()));
        Ok(())
    }

    async fn controller(
        &self,
        task: &Arc<Task>,
        _dependencies: &Dependencies,
    ) -> Result<Box<dyn Controller>, ExecError> {
        let call = format!("controller {}", task.id);
        self.wait_for(|state| (!state.held.contains(&call)).then_some(())).await;
        self.change(|state| match next_error(state, &call) {
            Some(error) => Err(error),
            None => {
                state.made.push(Task::clone(task));
                Ok(())
            }
        })?;
        Ok(Box::new(FakeController { executor: self.clone(), id: task.id.clone() }))
    }

    async fn task_containers(&self) -> Result<Vec<TaskId>, ExecError> {
        Ok(self.state().containers.keys().cloned().collect())
    }

    async fn remove_stray(&self, task: &TaskId) -> Result<(), ExecError> {
        let call = format!("stray {task}");
        self.change(|state| {
            state.calls.push(call.clone());
            if let Some(error) = next_error(state, &call) {
                return Err(error);
            }
            state.containers.remove(task);
            Ok(())
        })
    }
}

fn next_error(state: &mut State, call: &str) -> Option<ExecError> {
    state.errors.get_mut(call)?.pop_front()
}

struct FakeController {
    executor: FakeExecutor,
    id: TaskId,
}

impl FakeController {
    /// Notes a call, waits while it is held, and answers its next error.
    async fn call(&self, name: &str) -> Result<(), ExecError> {
        let call = format!("{name} {}", self.id);
        self.executor.change(|state| state.calls.push(call.clone()));
        self.executor.wait_for(|state| (!state.held.contains(&call)).then_some(())).await;
        match self.executor.change(|state| next_error(state, &call)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn with_container<T>(&self, use_it: impl FnOnce(Option<&mut Container>) -> T) -> T {
        self.executor.change(|state| use_it(state.containers.get_mut(&self.id)))
    }
}

#[async_trait]
impl Controller for FakeController {
    async fn update(&self, task: &Arc<Task>) -> Result<(), ExecError> {
        self.call(&format!("update to {}", task.desired_state)).await
    }

    async fn prepare(&self) -> Result<(), ExecError> {
        self.call("prepare").await?;
        self.executor.change(|state| {
            if state.containers.contains_key(&self.id) {
                return Err(ExecError::AlreadyPrepared);
            }
            state.containers.insert(self.id.clone(), Container::default());
            Ok(())
        })
    }

    async fn start(&self) -> Result<(), ExecError> {
        self.call("start").await?;
        self.with_container(|container| {
            let container = container.expect("prepared before started");
            if std::mem::replace(&mut container.started, true) {
                return Err(ExecError::AlreadyStarted);
            }
            Ok(())
        })
    }

    async fn wait(&self) -> Result<(), ExecError> {
        self.call("wait").await?;
        let id = self.id.clone();
        match self.executor.wait_for(|state| state.containers.get(&id)?.exit).await {
            0 => Ok(()),
            code => Err(ExecError::Exit { code, cause: None }),
        }
    }

    async fn trouble(&self, told: &str) -> String {
        let new = |state: &mut State| {
            let trouble = state.troubles.get(&self.id).cloned().unwrap_or_default();
            (trouble != told).then_some(trouble)
        };
        self.executor.wait_for(new).await
    }

    async fn shutdown(&self) -> Result<(), ExecError> {
        self.call("shutdown").await?;
        self.with_container(|container| {
            if let Some(container) = container {
                container.exit.get_or_insert(143);
            }
        });
        Ok(())
    }

    async fn terminate(&self) -> Result<(), ExecError> {
        self.call("terminate").await
    }

    async fn remove(&self) -> Result<(), ExecError> {
        self.call("remove").await?;
        self.executor.change(|state| state.containers.remove(&self.id));
        Ok(())
    }

    async fn close(&self) -> Result<(), ExecError> {
        self.call("close").await
    }

    async fn logs(&self, options: &LogOptions) -> Result<LogStream, ExecError> {
        self.executor.change(|state| state.log_options.push(options.clone()));
        let line = |text: &str| {
            Ok(LogRecord {
                timestamp: crate::now(),
                source: LogSource::Stdout,
                data: format!("{text} of {}\n", self.id).into_bytes(),
                attributes: Vec::new(),
            })
        };
        let lines = futures::stream::iter([line("first"), line("second")]);
        if options.follow {
            return Ok(lines.chain(futures::stream::pending()).boxed());
        }
        Ok(lines.boxed())
    }

    async fn container_status(&self) -> Option<ContainerStatus> {
        self.with_container(|container| {
            container.map(|container| ContainerStatus {
                container_id: format!("container-of-{}", self.id),
                pid: if container.started && container.exit.is_none() { 42 } else { 0 },
                exit_code: container.exit.unwrap_or_default(),
            })
        })
    }

    async fn port_status(&self) -> Option<PortStatus> {
        let started = self.with_container(|container| container.is_some_and(|c| c.started));
        started.then(|| PortStatus {
            ports: vec![PortConfig { published_port: 32768, ..PortConfig::default() }],
        })
    }
}
