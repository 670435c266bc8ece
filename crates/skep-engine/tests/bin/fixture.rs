//! An executable for the tests: `shim <bundle>` is a container's shim; `daemon <data root> <exec root>
//! <cgroup parent>` is an engine that starts the container `survivor` from the image `box`, says so, and
//! waits to be killed.

use std::process::ExitCode;

use bollard_stubs::models::{
    ContainerCreateBody, HostConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use skep_engine::{Engine, EngineConfig};

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    match words.get(1).and_then(|w| w.to_str()) {
        Some("shim") => skep_container::shim::main(words.into_iter().skip(2)),
        Some("daemon") => daemon(&words[2..]),
        _ => ExitCode::from(2),
    }
}

fn daemon(words: &[std::ffi::OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let own = std::env::current_exe().expect("own path");
        let mut config = EngineConfig::new(&words[0], &words[1], own);
        config.cgroup_parent = words[2].to_string_lossy().into_owned();
        let engine = Engine::start(config).await.expect("start");
        let port = PortBinding { host_ip: None, host_port: Some("9000".into()) };
        let body = ContainerCreateBody {
            image: Some("box".into()),
            cmd: Some(
                ["sh", "-c", "n=0; while true; do n=$((n+1)); echo $n; sleep 0.1; done"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            host_config: Some(HostConfig {
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::ALWAYS),
                    maximum_retry_count: None,
                }),
                port_bindings: Some([("80/tcp".to_owned(), Some(vec![port]))].into()),
                ..HostConfig::default()
            }),
            labels: Some([("of".to_owned(), "a task".to_owned())].into()),
            ..ContainerCreateBody::default()
        };
        engine.container_create(Some("survivor"), None, body).await.expect("create");
        engine.container_start("survivor").await.expect("start");
        println!("ready");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
