//! A host without containers: tasks start at once and run until they are told to stop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use skep_agent::{
    Controller, Dependencies, ExecError, Executor, LogOptions, LogRecord, LogSource, LogStream,
    ManagerAddress,
};
use skep_node::{Host, HostError, Membership};
use skep_types::{
    ContainerStatus, EncryptionKey, EngineDescription, Node, NodeDescription, PluginDescription,
    PortStatus, Resources, Task, TaskId,
};
use tokio::sync::watch;

/// What happened on the host; survives the node's restart, as containers do.
#[derive(Default)]
pub struct World {
    containers: Mutex<BTreeMap<TaskId, watch::Sender<bool>>>,
    pub starts: Mutex<BTreeMap<TaskId, u32>>,
    pub memberships: Mutex<Vec<Membership>>,
    pub left: Mutex<u32>,
    pub keys: Mutex<Vec<EncryptionKey>>,
    pub node: Mutex<Option<Node>>,
}

impl World {
    pub fn containers(&self) -> Vec<TaskId> {
        self.containers.lock().unwrap().keys().cloned().collect()
    }

    /// Containers that run; those of ended tasks stay until their tasks are forgotten.
    pub fn running(&self) -> usize {
        self.containers.lock().unwrap().values().filter(|running| *running.borrow()).count()
    }

    /// A container dies by itself.
    pub fn kill(&self, task: &TaskId) {
        self.containers.lock().unwrap()[task].send_replace(false);
    }
}

pub struct FakeHost {
    pub world: Arc<World>,
    pub hostname: &'static str,
}

#[async_trait]
impl Host for FakeHost {
    async fn joined(&self, membership: &Membership) -> Result<(), HostError> {
        self.world.memberships.lock().unwrap().push(membership.clone());
        Ok(())
    }

    async fn left(&self) -> Result<(), HostError> {
        *self.world.left.lock().unwrap() += 1;
        self.world.containers.lock().unwrap().clear();
        Ok(())
    }
}

#[async_trait]
impl Executor for FakeHost {
    async fn describe(&self) -> Result<NodeDescription, ExecError> {
        let plugin =
            |kind: &str, name: &str| PluginDescription { kind: kind.into(), name: name.into() };
        Ok(NodeDescription {
            hostname: self.hostname.to_owned(),
            resources: Resources {
                nano_cpus: 8_000_000_000,
                memory_bytes: 16 << 30,
                ..Resources::default()
            },
            engine: Some(EngineDescription {
                engine_version: "test".into(),
                plugins: vec![
                    plugin("Network", "overlay"),
                    plugin("Network", "bridge"),
                    plugin("Network", "host"),
                    plugin("Volume", "local"),
                    plugin("Log", "json-file"),
                ],
                ..EngineDescription::default()
            }),
            ..NodeDescription::default()
        })
    }

    async fn configure(&self, node: &Node) -> Result<(), ExecError> {
        *self.world.node.lock().unwrap() = Some(node.clone());
        Ok(())
    }

    async fn set_network_keys(
        &self,
        keys: &[EncryptionKey],
        _managers: &[ManagerAddress],
    ) -> Result<(), ExecError> {
        *self.world.keys.lock().unwrap() = keys.to_vec();
        Ok(())
    }

    async fn controller(
        &self,
        task: &Arc<Task>,
        _dependencies: &Dependencies,
    ) -> Result<Box<dyn Controller>, ExecError> {
        Ok(Box::new(FakeController { world: self.world.clone(), task: Task::clone(task) }))
    }

    async fn task_containers(&self) -> Result<Vec<TaskId>, ExecError> {
        Ok(self.world.containers.lock().unwrap().keys().cloned().collect())
    }

    async fn remove_stray(&self, task: &TaskId) -> Result<(), ExecError> {
        self.world.containers.lock().unwrap().remove(task);
        Ok(())
    }
}

struct FakeController {
    world: Arc<World>,
    task: Task,
}

impl FakeController {
    fn running(&self) -> Option<watch::Receiver<bool>> {
        let containers = self.world.containers.lock().unwrap();
        containers.get(&self.task.id).map(watch::Sender::subscribe)
    }

    fn end(&self) {
        if let Some(running) = self.world.containers.lock().unwrap().get(&self.task.id) {
            running.send_replace(false);
        }
    }
}

#[async_trait]
impl Controller for FakeController {
    async fn update(&self, _task: &Arc<Task>) -> Result<(), ExecError> {
        Ok(())
    }

    async fn prepare(&self) -> Result<(), ExecError> {
        let image =
            self.task.spec.container_spec.as_ref().map(|c| c.image.as_str()).unwrap_or_default();
        if image.starts_with("missing") {
            return Err(ExecError::refused(format!("No such image: {image}")));
        }
        Ok(())
    }

    async fn start(&self) -> Result<(), ExecError> {
        if self.running().is_some() {
            return Err(ExecError::AlreadyStarted);
        }
        let id = self.task.id.clone();
        *self.world.starts.lock().unwrap().entry(id.clone()).or_default() += 1;
        self.world.containers.lock().unwrap().insert(id, watch::Sender::new(true));
        Ok(())
    }

    async fn wait(&self) -> Result<(), ExecError> {
        let Some(mut running) = self.running() else { return Ok(()) };
        // The sender is dropped when the container is removed.
        drop(running.wait_for(|running| !running).await);
        Err(ExecError::Exit { code: 137, cause: None })
    }

    async fn shutdown(&self) -> Result<(), ExecError> {
        self.end();
        Ok(())
    }

    async fn terminate(&self) -> Result<(), ExecError> {
        self.end();
        Ok(())
    }

    async fn remove(&self) -> Result<(), ExecError> {
        self.world.containers.lock().unwrap().remove(&self.task.id);
        Ok(())
    }

    async fn close(&self) -> Result<(), ExecError> {
        Ok(())
    }

    async fn logs(&self, options: &LogOptions) -> Result<LogStream, ExecError> {
        let line = |n: u32| {
            Ok(LogRecord {
                timestamp: skep_types::Timestamp::from_unix(1_700_000_000 + i64::from(n), 0)
                    .unwrap(),
                source: LogSource::Stdout,
                data: format!("line {n} of {}\n", self.task.id).into_bytes(),
                attributes: Vec::new(),
            })
        };
        let lines: Vec<_> = (1..=3).map(line).collect();
        let stream = futures::stream::iter(lines);
        if options.follow {
            return Ok(Box::pin(futures::StreamExt::chain(stream, futures::stream::pending())));
        }
        Ok(Box::pin(stream))
    }

    async fn container_status(&self) -> Option<ContainerStatus> {
        self.running()?;
        Some(ContainerStatus { container_id: format!("c-{}", self.task.id), pid: 1, exit_code: 0 })
    }

    async fn port_status(&self) -> Option<PortStatus> {
        None
    }
}
