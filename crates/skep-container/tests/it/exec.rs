//! Further processes.

use oci_spec::runtime::UserBuilder;
use skep_container::{
    AttachOptions, ExecFailureKind, ExecRequest, Handle, Size, StartError, Status, spec,
};
use tokio::io::AsyncWriteExt;

use crate::fixture::{Bed, Options, PATIENCE, collect, read_until};

async fn running(bed: &Bed) -> Handle {
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    handle.start().await.expect("start");
    handle
}

fn request(bed: &Bed, id: &str, args: &[&str]) -> ExecRequest {
    let args: Vec<String> = args.iter().map(|&a| a.to_owned()).collect();
    ExecRequest {
        id: id.to_owned(),
        process: bed.process(&args),
        tty: false,
        open_stdin: false,
        console_size: None,
    }
}

#[tokio::test]
async fn it_runs_inside_with_its_own_streams() {
    let bed = Bed::new();
    let handle = running(&bed).await;
    let mut request = request(
        &bed,
        "one",
        &[
            "sh",
            "-c",
            "read x; echo $x $A $(pwd) $(hostname); ps | grep -c slee[p]; echo e >&2; exit 3",
        ],
    );
    request.open_stdin = true;
    request.process.set_env(Some(vec!["PATH=/bin".into(), "A=b".into()])).set_cwd("/tmp".into());
    handle.exec_create(request).await.expect("create");
    let mut attached = handle.exec_attach("one", AttachOptions::ALL).await.expect("attach");
    attached.stdin.write_all(b"in\n").await.expect("write");
    assert_eq!(handle.exec_inspect("one").await.expect("inspect").status, Status::Created);
    let pid = handle.exec_start("one").await.expect("start");
    assert!(pid > 1);
    let (out, err) = collect(attached.output).await;
    assert_eq!((out.as_str(), err.as_str()), ("in b /tmp box\n1\n", "e\n"));
    let status = tokio::time::timeout(PATIENCE, handle.exec_wait("one"))
        .await
        .expect("in time")
        .expect("wait");
    assert_eq!(status.code, 3);
    let state = handle.exec_inspect("one").await.expect("inspect");
    assert_eq!((state.status, state.exit.map(|e| e.code)), (Status::Exited, Some(3)));
    handle.exec_remove("one").await.expect("remove");
    assert!(handle.exec_inspect("one").await.is_err());
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn another_user_and_more_capabilities() {
    let bed = Bed::new();
    let handle = running(&bed).await;
    let user = spec::resolve_user(&bed.root(), "web", &[]).expect("user");
    assert_eq!(
        (user.uid, user.home.as_str(), user.groups.as_slice()),
        (33, "/home/web", &[50][..])
    );
    let mut as_web = request(
        &bed,
        "web",
        &[
            "sh",
            "-c",
            "id -u; id -G; grep CapEff /proc/self/status; echo > /dev/stderr; echo $HOME",
        ],
    );
    let user = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups)
        .build()
        .expect("user");
    as_web.process.set_user(user).set_env(Some(vec!["PATH=/bin".into()]));
    handle.exec_create(as_web).await.expect("create");
    let attached = handle.exec_attach("web", AttachOptions::ALL).await.expect("attach");
    handle.exec_start("web").await.expect("start");
    let (out, _) = collect(attached.output).await;
    assert_eq!(out, "33\n33 50\nCapEff:\t0000000000000000\n/home/web\n");

    let mut privileged = request(&bed, "all", &["grep", "CapEff", "/proc/self/status"]);
    let all = spec::process_capabilities(&spec::all_capabilities()).expect("capabilities");
    privileged.process.set_capabilities(Some(all));
    handle.exec_create(privileged).await.expect("create");
    let attached = handle.exec_attach("all", AttachOptions::ALL).await.expect("attach");
    handle.exec_start("all").await.expect("start");
    let (out, _) = collect(attached.output).await;
    assert_ne!(out, "CapEff:\t00000000a80425fb\n");
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn with_a_terminal() {
    let bed = Bed::new();
    let handle = running(&bed).await;
    let mut request = request(&bed, "tty", &["sh", "-c", "tty; stty size; read x; stty size"]);
    (request.tty, request.open_stdin) = (true, true);
    request.console_size = Some(Size { rows: 11, cols: 22 });
    handle.exec_create(request).await.expect("create");
    let mut attached = handle.exec_attach("tty", AttachOptions::ALL).await.expect("attach");
    handle.exec_start("tty").await.expect("start");
    let text = read_until(&mut attached.output, "11 22").await;
    assert!(text.contains("/dev/pts/"), "{text:?}");
    handle.exec_resize("tty", Size { rows: 12, cols: 23 }).await.expect("resize");
    attached.stdin.write_all(b"\n").await.expect("write");
    assert!(collect(attached.output).await.0.contains("12 23"));
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn a_missing_command_and_a_killed_one() {
    let bed = Bed::new();
    let handle = running(&bed).await;
    handle.exec_create(request(&bed, "none", &["no-such"])).await.expect("create");
    match handle.exec_start("none").await {
        Err(StartError::Exec { failure, .. }) => {
            assert_eq!(failure.kind, ExecFailureKind::NotInPath)
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(handle.exec_wait("none").await.expect("wait").code, 127);
    handle.exec_create(request(&bed, "long", &["sleep", "100"])).await.expect("create");
    handle.exec_start("long").await.expect("start");
    handle.exec_kill("long", 15).await.expect("kill");
    assert_eq!(handle.exec_wait("long").await.expect("wait").code, 143);
    assert!(handle.exec_create(request(&bed, "long", &["true"])).await.is_err(), "the id is taken");
    // Nothing of them is left in the bundle.
    let left = std::fs::read_dir(bed.bundle().join("runtime")).expect("dir");
    assert!(left.flatten().all(|e| !e.file_name().to_string_lossy().starts_with("exec-")));
    handle.delete().await.expect("delete");
}

/// A background child that keeps the output open does not keep the exec from ending.
#[tokio::test]
async fn left_overs_do_not_hold_it_up() {
    let bed = Bed::new();
    let handle = running(&bed).await;
    handle
        .exec_create(request(&bed, "bg", &["sh", "-c", "sleep 100 & echo started"]))
        .await
        .expect("create");
    let attached = handle.exec_attach("bg", AttachOptions::ALL).await.expect("attach");
    handle.exec_start("bg").await.expect("start");
    assert_eq!(handle.exec_wait("bg").await.expect("wait").code, 0);
    assert_eq!(collect(attached.output).await.0, "started\n");
    handle.delete().await.expect("delete");
}
