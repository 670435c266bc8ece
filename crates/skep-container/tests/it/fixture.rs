//! A root file system, and containers that clean up after themselves.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use oci_spec::runtime::{
    LinuxBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use skep_container::proto::JsonFileConfig;
use skep_container::{
    AttachOptions, CreateRequest, ExitStatus, Handle, LogConfig, OutputStream, Runtime, StdStream,
    seccomp, spec,
};

/// Longest wait for anything; only a failing test takes it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a busybox root and a bundle.
pub struct Bed {
    pub dir: tempfile::TempDir,
    pub id: String,
    nested: String,
}

/// What a test changes about a container.
pub struct Options {
    pub args: Vec<String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub init: bool,
    pub log: bool,
    pub max_size: Option<u64>,
    pub adapt: Box<dyn Fn(&mut Spec) + Send>,
}

impl Options {
    pub fn new(args: &[&str]) -> Options {
        Options {
            args: args.iter().map(|&a| a.to_owned()).collect(),
            tty: false,
            open_stdin: false,
            stdin_once: false,
            init: false,
            log: false,
            max_size: None,
            adapt: Box::new(|_| {}),
        }
    }

    /// A shell script.
    pub fn sh(script: &str) -> Options {
        Options::new(&["sh", "-c", script])
    }
}

impl Bed {
    pub fn new() -> Bed {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("skep-container-").tempdir().expect("tempdir");
        let id =
            format!("skeptest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bed = Bed { dir, id, nested: String::new() };
        bed.fill_root();
        bed
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.path().join(&self.nested).join("bundle")
    }

    /// Puts the bundle deeper.
    pub fn nest(&mut self, path: &str) {
        self.nested = path.to_owned();
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("c-json.log")
    }

    pub fn log_config(&self, max_size: Option<u64>) -> JsonFileConfig {
        JsonFileConfig { path: self.log(), max_size, max_files: 3, attrs: Vec::new() }
    }

    fn fill_root(&self) {
        let root = self.root();
        for dir in ["bin", "etc", "tmp", "home/web"] {
            std::fs::create_dir_all(root.join(dir)).expect("mkdir");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is needed");
        let names =
            std::process::Command::new("/bin/busybox").arg("--list").output().expect("busybox");
        for name in String::from_utf8_lossy(&names.stdout).lines().filter(|&n| n != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("link");
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/home/web:/bin/sh\n",
        )
        .expect("passwd");
        std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:33:\nextra:x:50:web\n")
            .expect("group");
    }

    /// A process like Docker's.
    pub fn process(&self, args: &[String]) -> Process {
        let mut env = spec::Environment::base("box", false);
        env.set("HOME=/root");
        let caps = spec::process_capabilities(&spec::default_capabilities()).expect("capabilities");
        ProcessBuilder::default()
            .args(args.to_vec())
            .env(env.into_entries())
            .cwd("/")
            .user(UserBuilder::default().uid(0u32).gid(0u32).build().expect("user"))
            .capabilities(caps)
            .no_new_privileges(false)
            .build()
            .expect("process")
    }

    /// A container like Docker's, with a network namespace of its own.
    pub fn spec(&self, args: &[String]) -> Spec {
        let caps = spec::default_capabilities();
        let mut process = self.process(args);
        process.set_rlimits(None);
        let mut resources = oci_spec::runtime::LinuxResources::default();
        resources.set_devices(Some(spec::default_device_rules()));
        let linux = LinuxBuilder::default()
            .namespaces(
                spec::Namespaces { cgroup: spec::Namespace::Host, ..Default::default() }.to_spec(),
            )
            .masked_paths(spec::masked_paths())
            .readonly_paths(spec::readonly_paths())
            .resources(resources)
            .seccomp(seccomp::default_profile(&caps).expect("profile"))
            .cgroups_path(format!("/{}", self.id))
            .build()
            .expect("linux");
        SpecBuilder::default()
            .hostname("box")
            .root(RootBuilder::default().path(self.root()).readonly(false).build().expect("root"))
            .mounts(spec::default_mounts(spec::DEFAULT_SHM_SIZE))
            .process(process)
            .linux(linux)
            .build()
            .expect("spec")
    }

    pub fn runtime() -> Runtime {
        Runtime::new(env!("CARGO_BIN_EXE_skep-container-fixture"))
    }

    pub async fn try_create(
        &self,
        options: Options,
    ) -> Result<Handle, skep_container::CreateError> {
        let mut spec = self.spec(&options.args);
        (options.adapt)(&mut spec);
        Bed::runtime()
            .create(CreateRequest {
                id: self.id.clone(),
                bundle: self.bundle(),
                spec,
                tty: options.tty,
                open_stdin: options.open_stdin,
                stdin_once: options.stdin_once,
                console_size: None,
                log: if options.log {
                    LogConfig::JsonFile(self.log_config(options.max_size))
                } else {
                    LogConfig::None
                },
                init: options.init,
                root: None,
                leave_out: Vec::new(),
            })
            .await
    }

    pub async fn create(&self, options: Options) -> Handle {
        self.try_create(options).await.expect("create")
    }

    /// Runs to the end; gives exit status, standard output and standard error.
    pub async fn run(&self, options: Options) -> (ExitStatus, String, String) {
        let handle = self.create(options).await;
        let attached = handle
            .attach(AttachOptions { stdin: false, stdout: true, stderr: true })
            .await
            .expect("attach");
        handle.start().await.expect("start");
        let (out, err) = collect(attached.output).await;
        let status = wait(&handle).await;
        handle.delete().await.expect("delete");
        (status, out, err)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A failed test's container must not stay.
        let group = skep_container::cgroup::Cgroup::at(Path::new("/").join(&self.id).as_path());
        let _ = group.kill_and_remove();
        let config = self.bundle().join("shim.sock");
        if config.exists() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            let (id, bundle) = (self.id.clone(), self.bundle());
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    runtime.block_on(async {
                        if let Ok(handle) = Bed::runtime().connect(&id, &bundle).await {
                            let _ = handle.delete().await;
                        }
                    });
                });
            });
        }
    }
}

pub async fn collect(mut output: OutputStream) -> (String, String) {
    let (mut out, mut err) = (BytesMut::new(), BytesMut::new());
    let all = async {
        while let Some(piece) = output.next().await {
            let (stream, bytes) = piece.expect("output");
            match stream {
                StdStream::Stdout => out.extend_from_slice(&bytes),
                StdStream::Stderr => err.extend_from_slice(&bytes),
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("output ends");
    let text = |bytes: BytesMut| String::from_utf8_lossy(&bytes).into_owned();
    (text(out), text(err))
}

/// Reads output until it contains `wanted`.
pub async fn read_until(output: &mut OutputStream, wanted: &str) -> String {
    let mut text = String::new();
    let found = async {
        while !text.contains(wanted) {
            let (_, bytes) = output
                .next()
                .await
                .unwrap_or_else(|| panic!("output ended: {text:?}"))
                .expect("output");
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {wanted:?}"));
    text
}

pub async fn wait(handle: &Handle) -> ExitStatus {
    tokio::time::timeout(PATIENCE, handle.wait()).await.expect("ends in time").expect("wait")
}
