//! One host in one process, and waiting for conditions.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_manager::{Control, TaskFilter};
use skep_node::{InitRequest, NodeConfig, SwarmNode};
use skep_types::{
    Annotations, ContainerSpec, ReplicatedService, ServiceMode, ServiceSpec, Task, TaskSpec,
    TaskState,
};

use crate::fake::{FakeHost, World};

pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub world: Arc<World>,
    pub node: Arc<SwarmNode>,
    pub hostname: &'static str,
    pub port: u16,
}

impl Rig {
    pub async fn new(hostname: &'static str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), hostname).await
    }

    pub async fn on(folder: tempfile::TempDir, hostname: &'static str) -> Self {
        trace();
        let world = Arc::new(World::default());
        let node = start(folder.path(), &world, hostname).await;
        Self { folder, world, node, hostname, port: free_port() }
    }

    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn init_request(&self) -> InitRequest {
        InitRequest { listen_addr: self.addr(), ..InitRequest::default() }
    }

    pub async fn init(&self) -> Control {
        self.node.init(self.init_request()).await.unwrap();
        self.node.control().unwrap()
    }

    /// A clean stop and a start of the daemon. Containers live on.
    pub async fn restart(&mut self) -> Control {
        self.node.shutdown().await;
        self.node = start(self.folder.path(), &self.world, self.hostname).await;
        until("the restarted manager leads", || async { self.node.control().ok() }).await
    }
}

pub async fn start(folder: &Path, world: &Arc<World>, hostname: &'static str) -> Arc<SwarmNode> {
    let host = Arc::new(FakeHost { world: world.clone(), hostname });
    let config = NodeConfig {
        data_root: folder.to_owned(),
        default_advertise_addr: String::new(),
        is_own_interface: Arc::new(|_| false),
        host_routes: Arc::new(Vec::new),
        executor: host.clone(),
        host,
    };
    SwarmNode::start(config).await.unwrap()
}

pub fn trace() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Polls `probe` until it answers.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn service(name: &str, replicas: u64) -> ServiceSpec {
    ServiceSpec {
        annotations: Annotations { name: name.to_owned(), ..Annotations::default() },
        mode: ServiceMode::Replicated(ReplicatedService { replicas: Some(replicas) }),
        task_template: TaskSpec {
            container_spec: Some(ContainerSpec {
                image: "web:1".to_owned(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        },
        ..ServiceSpec::default()
    }
}

pub async fn tasks(control: &Control, service: &str) -> Vec<Task> {
    let filter = TaskFilter { services: vec![service.to_owned()], ..TaskFilter::default() };
    control.list_tasks(&filter).await.unwrap_or_default()
}

/// Waits until exactly `count` tasks run and none is on its way.
pub async fn until_running(control: &Control, service: &str, count: usize) -> Vec<Task> {
    let what = format!("{count} tasks of {service} run");
    until(&what, || async {
        let all = tasks(control, service).await;
        let live: Vec<Task> =
            all.into_iter().filter(|t| t.desired_state <= TaskState::Running).collect();
        (live.len() == count && live.iter().all(|t| t.status.state == TaskState::Running))
            .then_some(live)
    })
    .await
}

/// Doors spawn these.
#[test]
fn membership_changes_can_be_spawned() {
    fn spawnable<T: Send>(_: impl Fn(&'static SwarmNode) -> T) {}
    spawnable(|node| node.init(InitRequest::default()));
    spawnable(|node| node.join(skep_node::JoinRequest::default()));
    spawnable(|node| node.leave(true));
    spawnable(|node| node.unlock(""));
    spawnable(SwarmNode::info);
    spawnable(SwarmNode::shutdown);
}
