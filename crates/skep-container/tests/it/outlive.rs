//! The daemon dies; the container does not notice.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use skep_container::{AttachOptions, ConnectError, ControlError, LogConfig, Status};
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

/// Waits for the end of a process that is not ours.
async fn gone(pid: i32) {
    let limit = std::time::Instant::now() + crate::fixture::PATIENCE;
    while std::path::Path::new(&format!("/proc/{pid}/exe")).exists() {
        assert!(std::time::Instant::now() < limit, "process {pid} is still there");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_shim_whose_daemon_goes_before_the_start_ends_by_itself() {
    let bed = Bed::new();
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    let state = handle.state().await.expect("state");
    assert_eq!(state.status, Status::Created);
    drop(handle);
    gone(state.shim_pid.expect("shim")).await;
    gone(state.pid.expect("pid")).await;
    Bed::runtime().clean_up(&bed.id, &bed.bundle()).await.expect("clean up");
}

#[tokio::test]
async fn what_a_daemon_left_half_created_is_cleaned_up_with_its_shim() {
    let bed = Bed::new();
    // Another daemon, as it were, is still there, so that the shim does not end by itself.
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    let state = handle.state().await.expect("state");
    Bed::runtime().clean_up(&bed.id, &bed.bundle()).await.expect("clean up");
    gone(state.shim_pid.expect("shim")).await;
    assert!(!std::path::Path::new(&format!("/proc/{}/exe", state.pid.expect("pid"))).exists());
}

#[tokio::test]
async fn a_shim_that_hangs_fails_calls_and_can_be_removed() {
    let bed = Bed::new();
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    handle.start().await.expect("start");
    let state = handle.state().await.expect("state");
    let shim = state.shim_pid.expect("shim");
    skep_sys::process::kill(shim, nix::libc::SIGSTOP).expect("stop");
    // From here on nothing but time passes.
    tokio::time::pause();
    let hung = |result: Result<(), ControlError>| {
        assert!(matches!(result, Err(ControlError::Hung { .. })), "{result:?}");
    };
    hung(handle.state().await.map(drop));
    hung(handle.kill(9).await);
    hung(handle.attach(AttachOptions::ALL).await.map(drop));
    let again = Bed::runtime().connect(&bed.id, &bed.bundle()).await.expect("a handle");
    hung(again.state().await.map(drop));
    tokio::time::resume();
    // Nothing else than time was lost: the container runs, and what was asked takes effect.
    assert!(std::path::Path::new(&format!("/proc/{}/exe", state.pid.expect("pid"))).exists());
    skep_sys::process::kill(shim, nix::libc::SIGCONT).expect("go on");
    assert_eq!(wait(&handle).await.signal, Some(9));

    let other = Bed::new();
    let handle = other.create(Options::new(&["sleep", "100"])).await;
    handle.start().await.expect("start");
    let state = handle.state().await.expect("state");
    skep_sys::process::kill(state.shim_pid.expect("shim"), nix::libc::SIGSTOP).expect("stop");
    let all = skep_container::ShimProcess::all_in(other.dir.path()).expect("shims");
    assert_eq!(all.iter().map(|shim| shim.bundle()).collect::<Vec<_>>(), [other.bundle()]);
    tokio::time::pause();
    handle.delete().await.expect("delete");
    for pid in [state.pid, state.shim_pid] {
        assert!(!std::path::Path::new(&format!("/proc/{}/exe", pid.expect("pid"))).exists());
    }
    assert_eq!(skep_container::ShimProcess::all_in(other.dir.path()).expect("shims"), []);
}
