//! One task as one container.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream;
use skep_agent::{Controller, Dependencies, ExecError, LogOptions, LogStream};
use skep_engine::{
    Attachment, CreateExtras, EngineError, ErrorKind, Glance, HealthStatus, Phase, StopOptions,
};
use skep_types::{ContainerSpec, ContainerStatus, Node, PortStatus, Task};
use tokio::sync::watch;

use super::{Shared, attachable, body, logs, overlay, ports, workload};

/// How long a task waits for the addresses that a manager gives its node. Source: Docker's executor.
const ATTACHMENT_LIMIT: Duration = Duration::from_secs(30);

pub struct TaskController {
    host: Arc<Shared>,
    /// Shared with the agent: there may be hundreds, and they are large.
    task: Mutex<Arc<Task>>,
    dependencies: Dependencies,
    /// The container's id, once it is known.
    container: Mutex<Option<String>>,
}

fn engine_failed(what: &str, source: EngineError) -> ExecError {
    match source.kind() {
        ErrorKind::Unavailable => ExecError::temporary(what, source),
        _ => ExecError::fatal(what, source),
    }
}

/// What comes of stopping or killing a container. One that could not be stopped still runs: the task has not
/// ended, so it is never given up, whatever the reason. One that is gone, or did not run, is what was wanted.
fn stopped(what: &str, result: Result<(), EngineError>) -> Result<(), ExecError> {
    match result {
        Err(
            EngineError::NotModified(_)
            | EngineError::NoSuchContainer(_)
            | EngineError::NotRunning { .. },
        ) => Ok(()),
        other => other.map_err(|source| ExecError::temporary(what, source)),
    }
}

impl TaskController {
    pub fn new(host: Arc<Shared>, task: Arc<Task>, dependencies: Dependencies) -> Self {
        Self { host, task: Mutex::new(task), dependencies, container: Mutex::default() }
    }

    fn task(&self) -> Arc<Task> {
        Arc::clone(&self.task.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The container of this task, looked for once if this controller did not make it.
    fn container(&self) -> Option<String> {
        let known = self.container.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return known;
        }
        let task = self.task();
        let found = workload::find(&self.host.engine, &task.id)
            // Its record may be damaged and not say whose it is. The name of a task is no other container's.
            .or_else(|| self.host.engine.container_without_labels(&task.name()));
        self.container.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
        found
    }

    fn existing(&self) -> Result<String, ExecError> {
        self.container().ok_or_else(|| ExecError::refused("the task's container is gone"))
    }

    async fn watch(&self, container: &str) -> Result<watch::Receiver<Glance>, ExecError> {
        match self.host.engine.container_watch(container) {
            Ok(glances) => Ok(glances),
            Err(error) => Err(self.lost("watch the task's container", container, error).await),
        }
    }

    /// Why a task whose container cannot be used has failed. Another takes its place: one whose record cannot be
    /// read must not go on beside it, and until it has ended the task has not failed.
    async fn lost(&self, what: &str, container: &str, source: EngineError) -> ExecError {
        if matches!(source, EngineError::ContainerDamaged { .. }) {
            self.disable(container).await;
            if let Err(error) = self.host.engine.container_end_damaged(container).await {
                return ExecError::temporary("end the task's damaged container", error);
            }
        }
        engine_failed(what, source)
    }

    /// Makes the task's overlays known here, and waits for this node's own addresses on them: without
    /// them no name or virtual address would work.
    async fn networks(&self, task: &Task) -> Result<Vec<Attachment>, ExecError> {
        let overlays = || {
            task.networks_attachments
                .iter()
                .map(|a| &a.network)
                .filter(|network| !overlay::is_predefined(network))
        };
        let ready = |node: &Option<Node>| {
            let node = node.clone().unwrap_or_default();
            overlays().all(|network| overlay::balancer_address(&node, &network.id).is_some())
        };
        let mut nodes = self.host.node.subscribe();
        if tokio::time::timeout(ATTACHMENT_LIMIT, nodes.wait_for(ready)).await.is_err() {
            return Err(ExecError::refused(
                "node is missing network attachments, ip addresses may be exhausted",
            ));
        }
        for network in overlays() {
            self.host.know_overlay(network).await?;
        }
        overlay::attachments(task)
    }

    /// Makes sure of the image: the one at hand if the name fits it, else the registry's. A service
    /// whose image has a digest, as the client adds where a registry answers, gets exactly that one.
    async fn image(&self, spec: &ContainerSpec) -> Result<(), ExecError> {
        match self.host.engine.image_inspect(&spec.image).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(engine_failed("look for the image", error)),
        }
        super::pull::pull(&self.host.engine, &spec.image, &spec.registry_auth).await
    }

    /// Puts the task into rotation.
    async fn enable(&self, container: &str) -> Result<(), ExecError> {
        let Some(sandbox) = self.sandbox(container)? else { return Ok(()) };
        self.host
            .engine
            .net()
            .enable_service(&sandbox)
            .await
            .map_err(|source| ExecError::temporary("put the task into rotation", source))
    }

    /// Takes the task out of rotation. A failure is told and does not keep a task from ending.
    async fn disable(&self, container: &str) {
        let sandbox = match self.sandbox(container) {
            Ok(Some(sandbox)) => sandbox,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(container, %error, "find the task's sandbox");
                return;
            }
        };
        if let Err(error) = self.host.engine.net().disable_service(&sandbox).await {
            tracing::warn!(container, %error, "take the task out of rotation");
        }
    }

    fn sandbox(&self, container: &str) -> Result<Option<skep_net::SandboxId>, ExecError> {
        match self.host.engine.container_sandbox(container) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map_err(|source| engine_failed("find the task's sandbox", source)),
        }
    }

    /// Stops the task's container within its task's grace period, with which it was made.
    async fn stop(&self, container: &str) -> Result<(), ExecError> {
        let result = self.host.engine.container_stop(container, StopOptions::default()).await;
        self.over("stop the task's container", container, result).await
    }

    /// What comes of stopping or killing the task's container. A damaged one can be ended only by removing it, and the
    /// task has no other use for it.
    async fn over(
        &self,
        what: &str,
        container: &str,
        result: Result<(), EngineError>,
    ) -> Result<(), ExecError> {
        match result {
            Err(EngineError::ContainerDamaged { .. }) => {
                workload::remove(&self.host.engine, container).await.map_err(|source| {
                    ExecError::temporary("remove the task's damaged container", source)
                })
            }
            other => stopped(what, other),
        }
    }
}

/// How a container that should run ended, if it did. Its end by itself with code 0 is `Ok`.
fn ended(glance: &Glance) -> Option<Result<(), ExecError>> {
    if glance.removed {
        return Some(Err(ExecError::refused("the task's container was removed")));
    }
    let code = i32::try_from(glance.exit_code).unwrap_or(1);
    let over = matches!(glance.phase, Phase::Exited | Phase::Dead | Phase::Removing);
    over.then(|| match (code, glance.error.as_str()) {
        (0, "") => Ok(()),
        (_, "") => {
            Err(ExecError::Exit { code, cause: glance.oom_killed.then(|| "OOM killed".to_owned()) })
        }
        (_, error) => Err(ExecError::refused(error)),
    })
}

#[async_trait]
impl Controller for TaskController {
    async fn update(&self, task: &Arc<Task>) -> Result<(), ExecError> {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(task);
        Ok(())
    }

    async fn prepare(&self) -> Result<(), ExecError> {
        if self.container().is_some() {
            return Err(ExecError::AlreadyPrepared);
        }
        let task = self.task();
        let Some(spec) = &task.spec.container_spec else {
            // A plain container's wish for addresses: the container is its owner's.
            return attachable::announce(&self.host, &task, self.networks(&task).await);
        };
        let (attachments, ()) = tokio::try_join!(self.networks(&task), self.image(spec))?;
        let files = self.host.files.write(&task, &self.dependencies)?;
        let body = body::body(&task, spec, files)?;
        let extras = CreateExtras { attachments: (!attachments.is_empty()).then_some(attachments) };
        let created = self
            .host
            .engine
            .container_create_with(Some(&task.name()), None, body, extras)
            .await
            .map_err(|source| engine_failed("create the task's container", source))?;
        *self.container.lock().unwrap_or_else(PoisonError::into_inner) = Some(created.id);
        Ok(())
    }

    async fn start(&self) -> Result<(), ExecError> {
        if self.task().spec.container_spec.is_none() {
            return Ok(());
        }
        let container = self.existing()?;
        match self.host.engine.container_start(&container).await {
            Err(error) if error.kind() == ErrorKind::NotModified => {}
            Err(error @ EngineError::ContainerDamaged { .. }) => {
                return Err(self.lost("starting container failed", &container, error).await);
            }
            other => {
                other.map_err(|source| ExecError::fatal("starting container failed", source))?
            }
        }
        let mut glances = self.watch(&container).await?;
        loop {
            let glance = glances.borrow_and_update().clone();
            if glance.phase.is_running() {
                match glance.health {
                    HealthStatus::None | HealthStatus::Healthy => {
                        return self.enable(&container).await;
                    }
                    HealthStatus::Starting => {}
                    HealthStatus::Unhealthy => {
                        return Err(self.unhealthy(&container).await?);
                    }
                }
            } else if let Some(outcome) = ended(&glance) {
                // One that ran to a good end was started; `wait` says the rest.
                return outcome;
            }
            if glances.changed().await.is_err() {
                return Err(ExecError::refused("the task's container was removed"));
            }
        }
    }

    async fn wait(&self) -> Result<(), ExecError> {
        if self.task().spec.container_spec.is_none() {
            attachable::until_let_go(&self.host, &self.task()).await;
            return Ok(());
        }
        let container = self.existing()?;
        let mut glances = self.watch(&container).await?;
        // After a restart of the daemon nobody else would put a running task back.
        let mut enabled = false;
        loop {
            let glance = glances.borrow_and_update().clone();
            if let Some(outcome) = ended(&glance) {
                return outcome;
            }
            if glance.phase.is_running() && !enabled && glance.health != HealthStatus::Starting {
                self.enable(&container).await?;
                enabled = true;
            }
            if glance.health == HealthStatus::Unhealthy {
                return Err(self.unhealthy(&container).await?);
            }
            if glances.changed().await.is_err() {
                return Err(ExecError::refused("the task's container was removed"));
            }
        }
    }

    async fn trouble(&self, told: &str) -> String {
        let mut blocked = self.host.engine.net().blocked_ports();
        loop {
            let now = ports::trouble(&self.task(), &blocked.borrow_and_update());
            if now != told {
                return now;
            }
            if blocked.changed().await.is_err() {
                // The network is gone, and the daemon with it.
                return std::future::pending().await;
            }
        }
    }

    async fn shutdown(&self) -> Result<(), ExecError> {
        if self.task().spec.container_spec.is_none() {
            return Ok(());
        }
        let Some(container) = self.container() else { return Ok(()) };
        self.disable(&container).await;
        self.stop(&container).await
    }

    async fn terminate(&self) -> Result<(), ExecError> {
        let Some(container) = self.container() else { return Ok(()) };
        self.disable(&container).await;
        let result = self.host.engine.container_kill(&container, None).await;
        self.over("kill the task's container", &container, result).await
    }

    async fn remove(&self) -> Result<(), ExecError> {
        let task = self.task();
        if task.spec.container_spec.is_none() {
            return attachable::remove(&self.host, &task).await;
        }
        if let Some(container) = self.container() {
            self.disable(&container).await;
            workload::remove(&self.host.engine, &container)
                .await
                .map_err(|source| engine_failed("remove the task's container", source))?;
        }
        self.host
            .files
            .remove(&task.id)
            .map_err(|source| ExecError::temporary("remove the task's files", source))
    }

    async fn close(&self) -> Result<(), ExecError> {
        Ok(())
    }

    async fn container_status(&self) -> Option<ContainerStatus> {
        let container = self.container()?;
        let glance = self.host.engine.container_watch(&container).ok()?.borrow().clone();
        Some(ContainerStatus {
            container_id: container,
            pid: glance.pid.unwrap_or(0),
            exit_code: i32::try_from(glance.exit_code).unwrap_or(1),
        })
    }

    async fn port_status(&self) -> Option<PortStatus> {
        let task = self.task();
        let wanted = body::host_ports(&task);
        if wanted.is_empty() {
            return None;
        }
        let container = self.container()?;
        let sandbox = self.sandbox(&container).ok()??;
        let bound = self.host.engine.net().sandbox(&sandbox).ok()?;
        let ports = wanted
            .into_iter()
            .map(|port| {
                let found = bound.ports.iter().find(|binding| {
                    u32::from(binding.container_port) == port.target_port
                        && binding.protocol.as_str() == port.protocol.as_str()
                });
                let mut port = port.clone();
                if let Some(binding) = found {
                    port.published_port = u32::from(binding.host_port);
                }
                port
            })
            .collect();
        Some(PortStatus { ports })
    }

    async fn logs(&self, options: &LogOptions) -> Result<LogStream, ExecError> {
        // A task that was refused has none, and one that ended long ago none any more.
        let Some(container) = self.container() else { return Ok(Box::pin(stream::empty())) };
        logs::read(&self.host.engine, &container, options).await
    }
}

impl TaskController {
    /// Stops a container that its health check gave up on; the error says so.
    async fn unhealthy(&self, container: &str) -> Result<ExecError, ExecError> {
        self.disable(container).await;
        self.stop(container).await?;
        let watched = self.watch(container).await.ok();
        let code = watched.map_or(1, |glances| glances.borrow().exit_code);
        let code = i32::try_from(code).unwrap_or(1);
        Ok(ExecError::Exit { code, cause: Some("unhealthy container".to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_engine::NotRunningText;

    #[test]
    fn a_container_that_cannot_be_stopped_is_tried_again() {
        let run = |error| stopped("stop", Err(error));
        let id = || "c".to_owned();
        for over in [
            EngineError::NotModified(id()),
            EngineError::NoSuchContainer(id()),
            EngineError::NotRunning { id: id(), kind: NotRunningText::Kill },
        ] {
            run(over).unwrap();
        }
        for lives in [
            EngineError::System {
                what: "cannot stop container".into(),
                source: "no exit event".into(),
            },
            EngineError::Unavailable("busy".into()),
            EngineError::ShimUnreached { name: id(), reason: "no descriptors".into() },
        ] {
            let error = run(lives).unwrap_err();
            assert!(matches!(error, ExecError::Temporary { .. }), "{error:?}");
        }
    }
}
