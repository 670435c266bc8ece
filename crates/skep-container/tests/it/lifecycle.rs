//! Create, start, end.

use std::os::unix::fs::PermissionsExt as _;

use skep_container::{AttachOptions, ExecFailureKind, Size, StartError, Status};

use crate::fixture::{Bed, Options, collect, read_until, wait};

#[tokio::test]
async fn exit_codes_and_both_outputs() {
    let bed = Bed::new();
    let (status, out, err) = bed.run(Options::sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!((status.code, status.signal), (7, None));
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    for (command, code) in [("true", 0), ("false", 1)] {
        assert_eq!(bed.run(Options::new(&[command])).await.0.code, code);
    }
}

#[tokio::test]
async fn nothing_is_left() {
    let bed = Bed::new();
    bed.run(Options::new(&["true"])).await;
    let left: Vec<_> = std::fs::read_dir(bed.bundle())
        .expect("bundle")
        .map(|e| e.expect("entry").file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for point in skep_container::cgroup::Layout::host().hierarchies() {
        assert!(!point.join(&bed.id).exists(), "{point:?}");
    }
}

#[tokio::test]
async fn a_signal_ends_it_and_several_wait() {
    let bed = Bed::new();
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    assert_eq!(handle.state().await.expect("state").status, Status::Created);
    handle.start().await.expect("start");
    let state = handle.state().await.expect("state");
    assert_eq!(state.status, Status::Running);
    assert!(state.pid.is_some() && state.started_at.is_some());
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let h = handle.clone();
                async move { wait(&h).await }
            })
        })
        .collect();
    // Process 1 of a namespace has no default actions: only SIGKILL ends it.
    handle.kill(9).await.expect("kill");
    for waiter in waiters {
        let status = waiter.await.expect("waiter");
        assert_eq!((status.code, status.signal, status.oom_killed), (137, Some(9), false));
    }
    assert!(handle.kill(9).await.is_err());
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn a_command_that_is_not_there_says_so() {
    let bed = Bed::new();
    std::fs::write(bed.root().join("bin/plain"), "no program").expect("write");
    let script = bed.root().join("bin/script");
    std::fs::write(&script, "#!/no/such/shell\n").expect("write");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let cases = [
        (
            "no-such",
            ExecFailureKind::NotInPath,
            127,
            r#"exec: "no-such": executable file not found in $PATH"#,
        ),
        (
            "/no/such",
            ExecFailureKind::NoSuchFile,
            127,
            r#"exec: "/no/such": stat /no/such: no such file or directory"#,
        ),
        (
            "/bin/plain",
            ExecFailureKind::PermissionDenied,
            126,
            r#"exec: "/bin/plain": permission denied"#,
        ),
        (
            "script",
            ExecFailureKind::NoInterpreter,
            127,
            r#"exec: "script": no such file or directory: it is there, but the interpreter or loader that it names is not"#,
        ),
        ("/bin", ExecFailureKind::IsADirectory, 126, r#"exec: "/bin": is a directory"#),
    ];
    for init in [false, true] {
        for (command, kind, code, text) in cases {
            let handle = bed.create(Options { init, ..Options::new(&[command]) }).await;
            match handle.start().await {
                Err(StartError::Exec { failure, .. }) => {
                    assert_eq!((failure.kind, failure.exit_code()), (kind, code));
                    assert_eq!(failure.to_string(), text);
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(wait(&handle).await.code, code);
            handle.delete().await.expect("delete");
        }
    }
}

#[tokio::test]
async fn a_spec_that_cannot_be_set_up_says_why() {
    let bed = Bed::new();
    let options = Options {
        adapt: Box::new(|spec| {
            let mut mounts = spec.mounts().clone().expect("mounts");
            let mut bad = mounts[0].clone();
            bad.set_destination("/mnt".into())
                .set_typ(Some("bind".into()))
                .set_source(Some("/no/such/source".into()))
                .set_options(Some(vec!["bind".into()]));
            mounts.push(bad);
            spec.set_mounts(Some(mounts));
        }),
        ..Options::new(&["true"])
    };
    let error = bed.try_create(options).await.expect_err("cannot work");
    assert!(
        matches!(&error, skep_container::CreateError::Launch { message, .. } if !message.is_empty()),
        "{error:?}"
    );
    eprintln!("{error}");
    // And the id is free again.
    bed.run(Options::new(&["true"])).await;
}

#[tokio::test]
async fn a_terminal_with_a_size() {
    let bed = Bed::new();
    let script = "stty size; read line; stty size; echo got $line; tty";
    let handle = bed.create(Options { tty: true, open_stdin: true, ..Options::sh(script) }).await;
    handle.resize(Size { rows: 30, cols: 90 }).await.expect("resize before start");
    let mut attached = handle.attach(AttachOptions::ALL).await.expect("attach");
    handle.start().await.expect("start");
    read_until(&mut attached.output, "30 90\r\n").await;
    handle.resize(Size { rows: 44, cols: 120 }).await.expect("resize");
    tokio::io::AsyncWriteExt::write_all(&mut attached.stdin, b"hello\n").await.expect("write");
    let (out, err) = collect(attached.output).await;
    assert!(
        out.contains("44 120\r\n")
            && out.contains("got hello\r\n")
            && out.contains("/dev/pts/0\r\n"),
        "{out:?}"
    );
    assert_eq!(err, "");
    assert_eq!(wait(&handle).await.code, 0);
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn pausing_stops_everything() {
    let bed = Bed::new();
    let handle = bed.create(Options::sh("while :; do echo tick; sleep 0.01; done")).await;
    let mut attached =
        handle.attach(AttachOptions { stdin: false, ..AttachOptions::ALL }).await.expect("attach");
    handle.start().await.expect("start");
    read_until(&mut attached.output, "tick").await;
    handle.pause().await.expect("pause");
    assert_eq!(handle.state().await.expect("state").status, Status::Paused);
    assert!(handle.pause().await.is_err());
    let before = handle.stats().await.expect("stats").cpu.usage;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(handle.stats().await.expect("stats").cpu.usage, before);
    handle.resume().await.expect("resume");
    assert_eq!(handle.state().await.expect("state").status, Status::Running);
    read_until(&mut attached.output, "tick").await;
    handle.pause().await.expect("pause");
    // Deleting thaws.
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn init_reaps_and_passes_signals() {
    let bed = Bed::new();
    // An orphan of a subshell ends; the trap runs on a signal to process 1.
    let script =
        "trap 'echo term; exit 5' TERM; (sleep 0.05 & ) ; echo $$; while :; do sleep 0.05; done";
    let handle = bed.create(Options { init: true, ..Options::sh(script) }).await;
    let mut attached =
        handle.attach(AttachOptions { stdin: false, ..AttachOptions::ALL }).await.expect("attach");
    handle.start().await.expect("start");
    let pid = read_until(&mut attached.output, "\n").await;
    assert_eq!(pid.trim(), "2");
    handle.kill(15).await.expect("kill");
    assert!(collect(attached.output).await.0.contains("term"));
    assert_eq!(wait(&handle).await.code, 5);
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn limits_can_be_changed_and_usage_read() {
    use oci_spec::runtime::{LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};
    let bed = Bed::new();
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    handle.start().await.expect("start");
    let resources = LinuxResourcesBuilder::default()
        .memory(LinuxMemoryBuilder::default().limit(64 << 20).build().expect("memory"))
        .pids(LinuxPidsBuilder::default().limit(20).build().expect("pids"))
        .build()
        .expect("resources");
    handle.update(resources).await.expect("update");
    let stats = handle.stats().await.expect("stats");
    assert_eq!(
        (stats.memory.limit, stats.pids.limit, stats.pids.current),
        (Some(64 << 20), Some(20), 1)
    );
    assert!(stats.memory.usage > 0);
    let pid = handle.state().await.expect("state").pid.expect("pid");
    assert_eq!(handle.pids().await.expect("pids"), [pid]);
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn lack_of_memory_is_noticed() {
    use oci_spec::runtime::{LinuxMemoryBuilder, LinuxResourcesBuilder};
    let bed = Bed::new();
    let options = Options {
        adapt: Box::new(|spec| {
            let mut linux = spec.linux().clone().expect("linux");
            let memory = LinuxMemoryBuilder::default()
                .limit(16 << 20)
                .swap(16 << 20)
                .build()
                .expect("memory");
            let devices =
                linux.resources().as_ref().and_then(|r| r.devices().clone()).expect("devices");
            linux.set_resources(Some(
                LinuxResourcesBuilder::default()
                    .memory(memory)
                    .devices(devices)
                    .build()
                    .expect("resources"),
            ));
            spec.set_linux(Some(linux));
        }),
        ..Options::sh("head -c 100000000 /dev/zero | tail -c 90000000 > /dev/null; echo survived")
    };
    let handle = bed.create(options).await;
    let mut events = handle.events();
    handle.start().await.expect("start");
    let status = wait(&handle).await;
    assert!(status.oom_killed);
    assert!(matches!(events.recv().await, Ok(skep_container::Event::OutOfMemory)));
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn namespaces_are_joined_or_the_hosts() {
    use skep_container::spec::{Namespace, Namespaces};
    let mut owner = std::process::Command::new("unshare")
        .args(["-n", "sleep", "100"])
        .spawn()
        .expect("unshare");
    let path = std::path::PathBuf::from(format!("/proc/{}/ns/net", owner.id()));
    // The child shows the new namespace once unshare has made it.
    let own = std::fs::read_link("/proc/self/ns/net").expect("link");
    let joined = loop {
        match std::fs::read_link(&path) {
            Ok(link) if link != own => break link,
            _ => tokio::task::yield_now().await,
        }
    };
    let bed = Bed::new();
    let adapt = move |spec: &mut oci_spec::runtime::Spec| {
        let namespaces = Namespaces {
            network: Namespace::Join(path.clone()),
            pid: Namespace::Host,
            cgroup: Namespace::Host,
            ..Default::default()
        };
        let mut linux = spec.linux().clone().expect("linux");
        linux.set_namespaces(Some(namespaces.to_spec()));
        spec.set_linux(Some(linux));
    };
    // Nobody but the shim ends the left-over without a PID namespace.
    let script = "readlink /proc/self/ns/net; echo $$; sleep 100 & exit 6";
    let options = Options { adapt: Box::new(adapt), ..Options::sh(script) };
    let (status, out, _) = bed.run(options).await;
    owner.kill().expect("kill");
    owner.wait().expect("wait");
    assert_eq!(status.code, 6);
    let mut lines = out.lines();
    assert_eq!(lines.next(), joined.to_str());
    assert!(lines.next().and_then(|pid| pid.parse::<u32>().ok()).is_some_and(|pid| pid > 1));
}

#[tokio::test]
async fn sysctls_read_only_root_and_binds() {
    let bed = Bed::new();
    let shared = bed.dir.path().join("shared");
    std::fs::create_dir(&shared).expect("mkdir");
    let source = shared.clone();
    let adapt = move |spec: &mut oci_spec::runtime::Spec| {
        let mut root = spec.root().clone().expect("root");
        root.set_readonly(Some(true));
        let mut mounts = spec.mounts().clone().expect("mounts");
        let mut bind = mounts[0].clone();
        bind.set_destination("/data".into())
            .set_typ(Some("bind".into()))
            .set_source(Some(source.clone()))
            .set_options(Some(vec!["rbind".into(), "rw".into()]));
        mounts.push(bind);
        let mut linux = spec.linux().clone().expect("linux");
        let sysctl = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())];
        linux.set_sysctl(Some(sysctl.into_iter().collect()));
        spec.set_root(Some(root)).set_mounts(Some(mounts)).set_linux(Some(linux));
    };
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; touch /x 2>/dev/null; echo $?; echo hi > /data/f; df -k /dev/shm | tail -1 | awk '{print $2}'";
    let options = Options { adapt: Box::new(adapt), ..Options::sh(script) };
    let (status, out, err) = bed.run(options).await;
    assert_eq!((status.code, out.as_str()), (0, "0\n1\n65536\n"), "{err}");
    assert_eq!(std::fs::read_to_string(shared.join("f")).expect("read"), "hi\n");
}
