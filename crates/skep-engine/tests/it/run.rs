//! Running containers.

use bollard_stubs::models::{
    ContainerCreateBody, ExecConfig, HostConfig, HostConfigLogConfig, ResourcesUlimits,
};
use futures::StreamExt;
use skep_engine::{
    AttachOptions, EngineError, ErrorKind, ExecStartOptions, LogsOptions, RemoveOptions,
};
use tokio::io::AsyncWriteExt;

use crate::host::{Host, log, on_a_host, run, script, script_with};

#[test]
fn output_and_exit_code() {
    on_a_host("run::output_and_exit_code", |host: Host| async move {
        let engine = host.engine().await;
        let out = run(&engine, script("echo out; echo err >&2; echo $FROM $PATH; exit 7")).await;
        assert_eq!(
            out.stdout,
            "out\nimage /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        );
        assert_eq!((out.stderr.as_str(), out.code), ("err\n", 7));
        assert!(
            engine
                .container_list(skep_engine::ListOptions { all: true, ..Default::default() })
                .await
                .unwrap()
                .is_empty()
        );
        let begun = std::time::Instant::now();
        for _ in 0..5 {
            run(&engine, script("true")).await;
        }
        eprintln!("a run takes {:?}", begun.elapsed() / 5);
    });
}

#[test]
fn options_reach_the_process() {
    on_a_host("run::options_reach_the_process", |host: Host| async move {
        let engine = host.engine().await;
        let body = ContainerCreateBody {
            hostname: Some("wabe".into()),
            user: Some("web".into()),
            working_dir: Some("/made/here".into()),
            env: Some(vec!["A=1".into(), "FROM=user".into()]),
            ..script(
                "hostname; id -u; pwd; echo $A $FROM $HOME; grep CapBnd /proc/self/status; ulimit -n",
            )
        };
        let limits = HostConfig {
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(vec!["CHOWN".into()]),
            ulimits: Some(vec![ResourcesUlimits {
                name: Some("nofile".into()),
                soft: Some(123),
                hard: Some(456),
            }]),
            ..HostConfig::default()
        };
        let out = run(&engine, ContainerCreateBody { host_config: Some(limits), ..body }).await;
        assert_eq!(
            out.stdout, "wabe\n33\n/made/here\n1 user /home/web\nCapBnd:\t0000000000000001\n123\n",
            "{}",
            out.stderr
        );

        let limits = HostConfig {
            readonly_rootfs: Some(true),
            tmpfs: Some([("/run".to_owned(), "size=64k".to_owned())].into()),
            memory: Some(64 << 20),
            pids_limit: Some(50),
            shm_size: Some(1 << 20),
            init: Some(true),
            ..HostConfig::default()
        };
        let text = "touch /x 2>&1; touch /run/x && echo tmpfs; df -k /dev/shm | tail -1 | awk '{print $2}'; cat /proc/1/comm";
        let out = run(&engine, script_with(text, limits)).await;
        assert!(
            out.stdout.contains("Read-only file system\ntmpfs\n1024\n"),
            "{}{}",
            out.stdout,
            out.stderr
        );
        assert!(!out.stdout.ends_with("sh\n"), "{}", out.stdout);
    });
}

#[test]
fn input_before_the_start_arrives() {
    on_a_host("run::input_before_the_start_arrives", |host: Host| async move {
        let engine = host.engine().await;
        let body = ContainerCreateBody {
            open_stdin: Some(true),
            stdin_once: Some(true),
            ..script("cat; echo end")
        };
        let id = engine.container_create(Some("reader"), None, body).await.unwrap().id;
        let all =
            AttachOptions { stream: true, stdin: true, stdout: true, stderr: true, logs: false };
        let mut session = engine.container_attach(&id, all).await.unwrap();
        let mut input = session.input.take().unwrap();
        input.write_all(b"hello\n").await.unwrap();
        input.shutdown().await.unwrap();
        engine.container_start("reader").await.unwrap();
        let mut text = Vec::new();
        while let Some(item) = session.output.next().await {
            text.extend_from_slice(&item.unwrap().1);
        }
        assert_eq!(String::from_utf8_lossy(&text), "hello\nend\n");
        assert_eq!(log(&engine, &id).await, "hello\nend\n");
    });
}

#[test]
fn commands_that_do_not_exist() {
    on_a_host("run::commands_that_do_not_exist", |host: Host| async move {
        let engine = host.engine().await;
        let body = ContainerCreateBody {
            image: Some("box".into()),
            cmd: Some(vec!["nope".into()]),
            ..Default::default()
        };
        engine.container_create(Some("bad"), None, body).await.unwrap();
        let error = engine.container_start("bad").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        assert!(
            error.report().contains(r#"exec: "nope": executable file not found in $PATH"#),
            "{}",
            error.report()
        );
        let state = engine.container_inspect("bad", false).await.unwrap().state.unwrap();
        assert_eq!(
            (state.exit_code, state.status.unwrap().to_string().as_str()),
            (Some(127), "created")
        );
        // It can be tried again, and removed.
        assert!(engine.container_start("bad").await.is_err());
        engine.container_remove("bad", RemoveOptions::default()).await.unwrap();

        for (body, kind, text) in [
            (
                ContainerCreateBody { image: Some("nope".into()), ..Default::default() },
                ErrorKind::NotFound,
                "No such image: nope:latest",
            ),
            (
                script_with(
                    "true",
                    HostConfig { network_mode: Some("nonet".into()), ..Default::default() },
                ),
                ErrorKind::NotFound,
                "nonet",
            ),
            (
                script_with(
                    "true",
                    HostConfig {
                        log_config: Some(HostConfigLogConfig {
                            typ: Some("syslog".into()),
                            config: None,
                        }),
                        ..Default::default()
                    },
                ),
                ErrorKind::InvalidParameter,
                "syslog",
            ),
        ] {
            let error = match engine.container_create(Some("bad"), None, body).await {
                Err(error) => error,
                Ok(_) => {
                    let error = engine.container_start("bad").await.unwrap_err();
                    engine.container_remove("bad", RemoveOptions::default()).await.unwrap();
                    error
                }
            };
            assert_eq!(error.kind(), kind, "{}", error.report());
            assert!(error.report().contains(text), "{}", error.report());
        }
    });
}

#[test]
fn names_and_references() {
    on_a_host("run::names_and_references", |host: Host| async move {
        let engine = host.engine().await;
        let id = engine.container_create(Some("web"), None, script("true")).await.unwrap().id;
        match engine.container_create(Some("/web"), None, script("true")).await.unwrap_err() {
            EngineError::NameInUse { name, holder } => {
                assert_eq!((name.as_str(), holder), ("/web", id.clone()))
            }
            other => panic!("{other}"),
        }
        engine.container_rename("web", "shop").await.unwrap();
        assert_eq!(
            engine.container_inspect(&id[..6], false).await.unwrap().name.as_deref(),
            Some("/shop")
        );
        assert!(engine.container_inspect("web", false).await.is_err());
        let unnamed = engine.container_create(None, None, script("true")).await.unwrap().id;
        let name = engine.container_inspect(&unnamed, false).await.unwrap().name.unwrap();
        assert!(name.contains('_'), "{name}");
    });
}

#[test]
fn exec_in_a_running_container() {
    on_a_host("run::exec_in_a_running_container", |host: Host| async move {
        let engine = host.engine().await;
        engine.container_create(Some("c1"), None, script("sleep 60")).await.unwrap();
        engine.container_start("c1").await.unwrap();
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(
                ["sh", "-c", "id -un; echo $X $FROM; pwd; exit 3"].map(str::to_owned).to_vec(),
            ),
            user: Some("web".into()),
            env: Some(vec!["X=y".into()]),
            working_dir: Some("/tmp".into()),
            ..Default::default()
        };
        engine
            .container_archive_put("c1", "/", Default::default(), std::io::Cursor::new(tmp_dir()))
            .await
            .unwrap();
        let id = engine.exec_create("c1", config).await.unwrap().id;
        let mut session =
            engine.exec_start(&id, ExecStartOptions::default()).await.unwrap().unwrap();
        let mut text = Vec::new();
        while let Some(item) = session.output.next().await {
            text.extend_from_slice(&item.unwrap().1);
        }
        assert_eq!(String::from_utf8_lossy(&text), "web\ny image\n/tmp\n");
        crate::host::until("exit code of the exec", || async {
            engine.exec_inspect(&id).await.unwrap().exit_code == Some(3)
        })
        .await;
        assert!(engine.exec_start(&id, ExecStartOptions::default()).await.is_err());

        let top = engine.container_top("c1", "").await.unwrap();
        assert!(top.processes.unwrap().iter().any(|p| p.last().unwrap().contains("sleep")));
        engine
            .container_stop("c1", skep_engine::StopOptions { timeout: Some(0), signal: None })
            .await
            .unwrap();
        let config = ExecConfig { cmd: Some(vec!["true".into()]), ..Default::default() };
        assert_eq!(engine.exec_create("c1", config).await.unwrap_err().kind(), ErrorKind::Conflict);
    });
}

fn tmp_dir() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o1777);
    builder.append_data(&mut header, "tmp/", std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn logs_follow_until_the_end() {
    on_a_host("run::logs_follow_until_the_end", |host: Host| async move {
        let engine = host.engine().await;
        engine
            .container_create(
                Some("c1"),
                None,
                script("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"),
            )
            .await
            .unwrap();
        engine.container_start("c1").await.unwrap();
        let options = LogsOptions { stdout: true, follow: true, ..Default::default() };
        let mut session = engine.container_logs("c1", options).await.unwrap();
        let mut text = Vec::new();
        while let Some(item) = session.output.next().await {
            text.extend_from_slice(&item.unwrap().1);
        }
        assert_eq!(String::from_utf8_lossy(&text), "1\n2\n3\n4\n5\n");
        let options = LogsOptions { stdout: true, tail: Some(2), ..Default::default() };
        let session = engine.container_logs("c1", options).await.unwrap();
        assert_eq!(session.output.count().await, 2);
    });
}
