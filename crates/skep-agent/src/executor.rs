use std::sync::Arc;

use async_trait::async_trait;
use skep_types::{ContainerStatus, EncryptionKey, Node, NodeDescription, PortStatus, Task, TaskId};

use crate::{Dependencies, ExecError, LogOptions, LogStream, ManagerAddress};

/// What runs containers on this host.
///
/// An implementer must uphold:
/// - [`Executor::controller`] changes nothing on the host, and is quick but for one case: after a
///   restart it waits until the host has taken over the containers of the process before it, so that
///   nothing is said or done about a task whose container is not known yet. The session with a manager
///   goes on meanwhile. Its future may be dropped at any `await`. It is called once for each task, and
///   again after a restart of the process for every task that is still assigned, whatever state it was
///   in: a container that exists belongs to the task's new controller.
/// - [`Executor::describe`] waits for nothing of the kind.
/// - [`Executor::task_containers`] names tasks whose containers this executor made, never a container
///   that a user made.
/// - [`Executor::configure`] and [`Executor::set_network_keys`] may be called again with the same
///   argument, and before or after the controllers of tasks that need what they bring.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// This host as managers should see it: name, platform, resources, engine with its plugins. The
    /// agent adds `tls_info`. Asked again every 20 s, where a different answer goes to the managers,
    /// and once for each task, for its templates; so it should be cheap.
    async fn describe(&self) -> Result<NodeDescription, ExecError>;

    /// Follows the node's object: role, availability, load-balancer addresses in
    /// `Node::attachments`, VXLAN port. After an error it is called again with the newest node.
    async fn configure(&self, node: &Node) -> Result<(), ExecError>;

    /// Follows the swarm's network keys, three for gossip and three for IPsec, and the managers,
    /// which answer gossip at the addresses of their remote API. After an error it is called again
    /// with the newest.
    async fn set_network_keys(
        &self,
        keys: &[EncryptionKey],
        managers: &[ManagerAddress],
    ) -> Result<(), ExecError>;

    /// Makes what will run a task. `task` has its templates filled in.
    ///
    /// A temporary error is tried again; any other one ends the task as rejected.
    async fn controller(
        &self,
        task: &Arc<Task>,
        dependencies: &Dependencies,
    ) -> Result<Box<dyn Controller>, ExecError>;

    /// The tasks that have containers on this host.
    async fn task_containers(&self) -> Result<Vec<TaskId>, ExecError>;

    /// Removes a container without a controller, running or not, and what only it used. One that is
    /// gone is no error.
    async fn remove_stray(&self, task: &TaskId) -> Result<(), ExecError>;
}

/// One task's container, from its image to its removal.
///
/// The agent calls `prepare`, `start` and `wait` in this order, one at a time, and any of the others
/// at any moment, also while one of those runs. An implementer must uphold:
/// - **Cancel safety.** The future of `prepare`, `start`, `wait` or `trouble` may be dropped at any
///   `await` and the method called again later, or `shutdown` or `remove` instead.
/// - **Adoption.** What an earlier controller of the same task did, in this process or before a
///   restart, counts: `prepare` answers [`ExecError::AlreadyPrepared`], `start`
///   [`ExecError::AlreadyStarted`], `wait` the exit code of a container that ended meanwhile.
/// - **Idempotence.** `shutdown`, `terminate` and `remove` succeed when there is nothing (left) to do.
/// - Dropping a controller, or `close`, leaves the container as it is.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// The task changed in what may change in a running task: desired state, endpoint, addresses. An
    /// error is logged; the next change brings everything again.
    async fn update(&self, task: &Arc<Task>) -> Result<(), ExecError>;

    /// Gets everything ready so that `start` is quick: image, networks, volumes, the container itself.
    async fn prepare(&self) -> Result<(), ExecError>;

    /// Starts the container and returns once it runs, and is healthy where it has a health check.
    ///
    /// A container that ends, or turns out unhealthy, before that is [`ExecError::Exit`].
    async fn start(&self) -> Result<(), ExecError>;

    /// Waits until the container ends. Code 0 is `Ok`; another one is [`ExecError::Exit`], and so is
    /// a container that was stopped because it became unhealthy.
    async fn wait(&self) -> Result<(), ExecError>;

    /// Waits until what is wrong with the running task, without ending it, is not `told` any more, and
    /// says what it is then, for the task's status: empty when nothing is. Unless implemented, nothing
    /// ever is.
    async fn trouble(&self, told: &str) -> String {
        if told.is_empty() { std::future::pending().await } else { String::new() }
    }

    /// Takes the task out of rotation, then stops the container with its signal and grace period.
    async fn shutdown(&self) -> Result<(), ExecError>;

    /// Stops the container at once.
    async fn terminate(&self) -> Result<(), ExecError>;

    /// Removes the container and what only it used; stops it first if it runs.
    async fn remove(&self) -> Result<(), ExecError>;

    /// The agent is done with this controller. The container stays as it is.
    async fn close(&self) -> Result<(), ExecError>;

    /// The container's output; none if there is no container. With `follow` the stream ends when the container does.
    async fn logs(&self, options: &LogOptions) -> Result<LogStream, ExecError>;

    /// Id, first process and exit code of the container; `None` if there is none.
    async fn container_status(&self) -> Option<ContainerStatus>;

    /// The host ports that the task's host-mode ports got; `None` if it has none.
    async fn port_status(&self) -> Option<PortStatus>;
}
