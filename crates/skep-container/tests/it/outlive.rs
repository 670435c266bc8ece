//! The daemon dies; the container does not notice.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use skep_container::{AttachOptions, ConnectError, LogConfig, Status};
use tokio::io::AsyncWriteExt;

use crate::fixture::{Bed, Options, read_until, wait};

/// Starts a daemon that runs a container and returns it once the container runs.
fn daemon(bed: &Bed, script: &str) -> std::process::Child {
    let args: Vec<String> = ["sh", "-c", script].map(str::to_owned).to_vec();
    let request = serde_json::json!({
        "id": bed.id, "bundle": bed.bundle(), "spec": bed.spec(&args),
        "log": LogConfig::JsonFile(bed.log_config(None)),
    });
    let file = bed.dir.path().join("request.json");
    std::fs::write(&file, request.to_string()).expect("request");
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep-container-fixture"))
        .arg("daemon")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("daemon");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().expect("stdout"))
        .read_line(&mut line)
        .expect("read");
    assert_eq!(line, "started\n");
    child
}

#[tokio::test]
async fn killing_the_daemon_disturbs_nothing() {
    let bed = Bed::new();
    let mut child =
        daemon(&bed, "echo first; while read x; do echo \"<$x>\"; done; echo end; exit 4");
    child.kill().expect("kill -9");
    child.wait().expect("wait");

    let handle = Bed::runtime().connect(&bed.id, &bed.bundle()).await.expect("connect");
    let state = handle.state().await.expect("state");
    assert_eq!(state.status, Status::Running, "the input is still open");
    let mut attached = handle.attach(AttachOptions::ALL).await.expect("attach");
    attached.stdin.write_all(b"again\n").await.expect("write");
    read_until(&mut attached.output, "<again>").await;
    attached.stdin.shutdown().await.expect("shutdown");
    assert_eq!(wait(&handle).await.code, 4);
    let log = std::fs::read_to_string(bed.log()).expect("log");
    assert!(log.contains("first") && log.contains("again") && log.contains("end"));
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn an_end_without_a_daemon_is_kept() {
    let bed = Bed::new();
    let mut child = daemon(&bed, "sleep 0.3; exit 9");
    child.kill().expect("kill -9");
    child.wait().expect("wait");
    let handle = Bed::runtime().connect(&bed.id, &bed.bundle()).await.expect("connect");
    assert_eq!(wait(&handle).await.code, 9);
    // Even if the shim is gone as well.
    let shim = handle.state().await.expect("state").shim_pid.expect("shim");
    skep_sys::process::kill(shim, 9).expect("kill");
    while std::path::Path::new(&format!("/proc/{shim}/exe")).exists() {
        tokio::task::yield_now().await;
    }
    let handle = Bed::runtime().connect(&bed.id, &bed.bundle()).await.expect("connect");
    assert_eq!(wait(&handle).await.code, 9);
    assert_eq!(handle.state().await.expect("state").status, Status::Exited);
    handle.delete().await.expect("delete");
    let gone = Bed::runtime().connect(&bed.id, &bed.bundle()).await;
    assert!(matches!(gone, Err(ConnectError::Unknown { .. })));
}

#[tokio::test]
async fn a_lost_shim_is_told_and_cleaned_up() {
    let bed = Bed::new();
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    handle.start().await.expect("start");
    let state = handle.state().await.expect("state");
    skep_sys::process::kill(state.shim_pid.expect("shim"), 9).expect("kill");
    assert!(handle.wait().await.is_err());
    let lost = Bed::runtime().connect(&bed.id, &bed.bundle()).await;
    assert!(matches!(lost, Err(ConnectError::ShimLost { .. })), "{lost:?}");
    Bed::runtime().clean_up(&bed.id, &bed.bundle()).await.expect("clean up");
    assert!(!std::path::Path::new(&format!("/proc/{}/exe", state.pid.expect("pid"))).exists());
}

#[tokio::test]
async fn descriptors_survive_the_daemon() {
    let bed = Bed::new();
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    handle.start().await.expect("start");
    let (kept, mut other) = UnixStream::pair().expect("pair");
    handle.hold_fds(BTreeMap::from([("dns".to_owned(), OwnedFd::from(kept))])).await.expect("hold");
    drop(handle);

    let handle = Bed::runtime().connect(&bed.id, &bed.bundle()).await.expect("connect");
    let mut fds = handle.fetch_fds(&[]).await.expect("fetch");
    let mut back = UnixStream::from(fds.remove("dns").expect("held"));
    other.write_all(b"hello").expect("write");
    let mut bytes = [0; 5];
    back.read_exact(&mut bytes).expect("read");
    assert_eq!(&bytes, b"hello");
    assert!(handle.fetch_fds(&["other"]).await.is_err());
    handle.release_fds(&["dns"]).await.expect("release");
    drop(back);
    assert_eq!(other.read(&mut bytes).expect("end"), 0, "no copy is left");
    handle.delete().await.expect("delete");
}

/// A service manager stops a service by killing its control group.
#[tokio::test]
async fn the_shim_leaves_the_daemons_control_group() {
    let layout = skep_container::cgroup::Layout::host();
    let Some(unified) = layout.unified() else { panic!("no version 2 hierarchy") };
    let group = unified.join(format!("skeptest-service-{}", std::process::id()));
    std::fs::create_dir(&group).expect("group");
    let bed = Bed::new();
    let mut child = {
        let procs = group.join("cgroup.procs");
        let args: Vec<String> = ["sleep", "100"].map(str::to_owned).to_vec();
        let request = serde_json::json!({
            "id": bed.id, "bundle": bed.bundle(), "spec": bed.spec(&args), "log": LogConfig::None,
        });
        let file = bed.dir.path().join("request.json");
        std::fs::write(&file, request.to_string()).expect("request");
        let script = format!(
            "echo $$ > {} && exec {} daemon {}",
            procs.display(),
            env!("CARGO_BIN_EXE_skep-container-fixture"),
            file.display()
        );
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("daemon");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().expect("stdout"))
            .read_line(&mut line)
            .expect("read");
        assert_eq!(line, "started\n");
        child
    };
    let members = std::fs::read_to_string(group.join("cgroup.procs")).expect("members");
    assert_eq!(members.trim(), child.id().to_string(), "only the daemon is in its group");
    child.kill().expect("kill");
    child.wait().expect("wait");
    std::fs::remove_dir(&group).expect("empty");
    let handle = Bed::runtime().connect(&bed.id, &bed.bundle()).await.expect("connect");
    assert_eq!(handle.state().await.expect("state").status, Status::Running);
    handle.delete().await.expect("delete");
}
