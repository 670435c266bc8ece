//! A host in namespaces, with an engine and an image.

use std::future::Future;
use std::process::Command;
use std::time::{Duration, Instant};

use bollard_stubs::models::{ContainerCreateBody, HostConfig};
use futures::StreamExt;
use skep_engine::{AttachOptions, Engine, EngineConfig, LogsOptions, StdStream, WaitCondition};
use skep_sys::testing;

/// Longest wait for anything; only a failing test takes it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test inside its own host. `name` is the test's full path.
pub fn on_a_host<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Host) -> F) {
    if !testing::is_inside() {
        let namespaces = ["--net", "--mount", "--uts", "--"];
        return testing::run_inside(name, Command::new("unshare").args(namespaces));
    }
    sh("ip link set lo up");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let host = Host::new();
    runtime.block_on(test(host));
    runtime.shutdown_background();
}

/// Folders and control group of one host.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub cgroup: String,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("skep-engine-").tempdir().expect("folder");
        Self { dir, cgroup: format!("/skepenginetest-{}", std::process::id()) }
    }

    pub fn config(&self) -> EngineConfig {
        let at = |name: &str| self.dir.path().join(name);
        let mut config =
            EngineConfig::new(at("data"), at("exec"), env!("CARGO_BIN_EXE_skep-engine-fixture"));
        config.cgroup_parent.clone_from(&self.cgroup);
        config
    }

    /// An engine with the image `box`.
    pub async fn engine(&self) -> Engine {
        let engine = Engine::start(self.config()).await.expect("start");
        if engine.image_inspect("box").await.is_err() {
            let tar = std::io::Cursor::new(root_tar());
            let changes = vec!["CMD [\"sh\"]".to_owned(), "ENV FROM=image".to_owned()];
            engine.image_import(tar, Some("box"), changes, None, None).await.expect("import");
        }
        engine
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Whatever a failed test left running goes with its control groups.
        // Other tests' groups go meanwhile, which `find` holds to be an error.
        let groups = sh("find /sys/fs/cgroup -maxdepth 4 -type d 2>/dev/null || true");
        let mut own: Vec<&str> = groups.lines().filter(|g| g.contains(&self.cgroup[1..])).collect();
        own.sort_by_key(|g| std::cmp::Reverse(g.len()));
        for group in &own {
            for pid in
                std::fs::read_to_string(format!("{group}/cgroup.procs")).unwrap_or_default().lines()
            {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
        }
        std::thread::sleep(Duration::from_millis(50));
        for group in own {
            let _ = std::fs::remove_dir(group);
        }
        // Pinned namespaces and roots would keep the folder from being removed.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let folder = self.dir.path().to_string_lossy().into_owned();
        for point in mounts
            .lines()
            .rev()
            .filter_map(|l| l.split(' ').nth(4))
            .filter(|p| p.starts_with(&folder))
        {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}

/// Runs a command line and gives its output; fails the test with it otherwise.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A root file system with busybox, users, and a folder for volumes.
fn root_tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut file = |name: &str, mode: u32, owner: u64, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        builder.append_data(&mut header, name, content).expect("file");
    };
    file(
        "bin/busybox",
        0o755,
        0,
        &std::fs::read("/bin/busybox").expect("busybox-static is needed"),
    );
    file("etc/passwd", 0o644, 0, b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/home/web:/bin/sh\n");
    file("etc/group", 0o644, 0, b"root:x:0:\nweb:x:33:\n");
    file("data/seed", 0o640, 33, b"from the image\n");
    for applet in sh("/bin/busybox --list").lines().filter(|a| *a != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("link");
    }
    builder.into_inner().expect("tar")
}

/// A create request for a shell script.
pub fn script(text: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("box".into()),
        cmd: Some(["sh", "-c", text].map(str::to_owned).to_vec()),
        ..ContainerCreateBody::default()
    }
}

/// The same with a host configuration.
pub fn script_with(text: &str, host: HostConfig) -> ContainerCreateBody {
    ContainerCreateBody { host_config: Some(host), ..script(text) }
}

/// What a run printed, and its exit code.
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i64,
}

/// Creates, attaches, starts and waits, as `docker run` does, and removes.
pub async fn run(engine: &Engine, body: ContainerCreateBody) -> Outcome {
    let id = engine.container_create(None, None, body).await.expect("create").id;
    let all =
        AttachOptions { stream: true, stdout: true, stderr: true, ..AttachOptions::default() };
    let session = engine.container_attach(&id, all).await.expect("attach");
    let wait = engine.container_wait(&id, WaitCondition::NextExit).expect("wait");
    if let Err(error) = engine.container_start(&id).await {
        panic!("start: {}", error.report());
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut output = session.output;
    let read = async {
        while let Some(item) = output.next().await {
            let (stream, bytes) = item.expect("output");
            match stream {
                StdStream::Stdout => stdout.extend_from_slice(&bytes),
                StdStream::Stderr => stderr.extend_from_slice(&bytes),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("output ends");
    let done = tokio::time::timeout(PATIENCE, wait).await.expect("container ends");
    engine.container_remove(&id, Default::default()).await.expect("remove");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome { stdout: text(stdout), stderr: text(stderr), code: done.status_code }
}

/// A container's whole log.
pub async fn log(engine: &Engine, container: &str) -> String {
    let options = LogsOptions { stdout: true, stderr: true, ..LogsOptions::default() };
    let mut output = engine.container_logs(container, options).await.expect("logs").output;
    let mut text = Vec::new();
    while let Some(item) = output.next().await {
        text.extend_from_slice(&item.expect("log").1);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until a question is answered with yes.
pub async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let begun = Instant::now();
    while !ask().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
