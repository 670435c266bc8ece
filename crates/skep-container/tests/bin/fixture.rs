//! The executable that the tests start: `shim BUNDLE` as the real one, and `daemon REQUEST`, which
//! creates and starts the containers described in a file, says so, and waits to be killed.

use std::process::ExitCode;

use skep_container::{CreateRequest, LogConfig, Runtime};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|a| a.to_str()) {
        Some("shim") => skep_container::shim::main(args),
        Some("daemon") => daemon(args.next().unwrap_or_default().as_ref()),
        _ => ExitCode::from(2),
    }
}

fn daemon(file: &std::path::Path) -> ExitCode {
    let wanted: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file).expect("request file")).expect("request");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let log: LogConfig = serde_json::from_value(wanted["log"].clone()).expect("log");
        let handle = Runtime::new("/proc/self/exe")
            .create(CreateRequest {
                id: wanted["id"].as_str().expect("id").to_owned(),
                bundle: wanted["bundle"].as_str().expect("bundle").into(),
                spec: serde_json::from_value(wanted["spec"].clone()).expect("spec"),
                tty: false,
                open_stdin: true,
                stdin_once: true,
                console_size: None,
                log,
                init: false,
                root: None,
                leave_out: Vec::new(),
            })
            .await
            .expect("create");
        let _attached = handle.attach(skep_container::AttachOptions::ALL).await.expect("attach");
        handle.start().await.expect("start");
        println!("started");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
