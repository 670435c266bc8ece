//! Containers outlive the daemon.

use std::io::BufRead;
use std::process::{Command, Stdio};

use bollard_stubs::models::VolumeCreateRequest;
use skep_engine::{Engine, EngineError, ErrorKind, ListOptions, Phase, RemoveOptions};

use crate::host::{Host, log, on_a_host, script, sh, until};

fn daemon(host: &Host) -> std::process::Child {
    let at = |name: &str| host.dir.path().join(name);
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep-engine-fixture"))
        .arg("daemon")
        .args([at("data"), at("exec")])
        .arg(&host.cgroup)
        .stdout(Stdio::piped())
        .spawn()
        .expect("daemon");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().expect("stdout"))
        .read_line(&mut line)
        .expect("line");
    assert_eq!(line, "ready\n");
    child
}

/// A daemon that is killed, and leaves the container `survivor`.
async fn killed_daemon(host: &Host) {
    // The store's lock goes with the last handle of this engine.
    host.engine().await.shutdown().await;
    let mut child = daemon(host);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn a_killed_daemon_is_followed_without_a_gap() {
    on_a_host("adoption::a_killed_daemon_is_followed_without_a_gap", |host: Host| async move {
        host.engine().await.shutdown().await;
        // The store's lock goes with the last handle of the engine above.
        let mut child = daemon(&host);
        let before = sh("ip -o link | grep -c veth");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let engine = Engine::start(host.config()).await.expect("start");
        let c = engine.container_inspect("survivor", false).await.unwrap();
        let state = c.state.unwrap();
        assert_eq!((state.running, c.restart_count), (Some(true), Some(0)));
        assert_eq!(sh("ip -o link | grep -c veth"), before);
        let settings = c.network_settings.unwrap();
        assert_eq!(settings.networks.unwrap()["bridge"].ip_address.as_deref(), Some("172.17.0.2"));
        // It counted on without a gap.
        let len = log(&engine, "survivor").await.lines().count();
        until("more output", || async { log(&engine, "survivor").await.lines().count() > len + 3 })
            .await;
        let lines: Vec<usize> =
            log(&engine, "survivor").await.lines().map(|l| l.parse().unwrap()).collect();
        assert!(lines.windows(2).all(|w| w[1] == w[0] + 1), "{lines:?}");
        engine
            .container_stop("survivor", skep_engine::StopOptions { timeout: Some(0), signal: None })
            .await
            .unwrap();
        assert_eq!(
            *engine.container_watch("survivor").unwrap().borrow().phase.as_str(),
            *Phase::Exited.as_str()
        );
        engine.container_remove("survivor", RemoveOptions::default()).await.unwrap();
    });
}

#[test]
fn what_ended_meanwhile_is_noticed() {
    on_a_host("adoption::what_ended_meanwhile_is_noticed", |host: Host| async move {
        killed_daemon(&host).await;
        // The container's process ends while there is no daemon; its policy brings it back.
        let (id, pid) = recorded_pid(&host);
        sh(&format!("kill -9 {pid}"));
        // What a crash left of a record goes; what looks like it and is somebody's does not.
        let containers = host.dir.path().join("data/containers");
        std::fs::create_dir(containers.join("backup")).unwrap();
        let left = containers.join(&id).join("config.json.7.new");
        let others = ["notes.7.new", "backup/notes.7.new"].map(|name| containers.join(name));
        for path in others.iter().chain([&left]) {
            std::fs::write(path, "x").unwrap();
        }
        let engine = Engine::start(host.config()).await.expect("start");
        assert!(!left.exists() && others.iter().all(|path| path.exists()));
        until("the restart", || async {
            let c = engine.container_inspect("survivor", false).await.unwrap();
            // A daemon that starts counts from nought.
            let now = c.state.unwrap().pid.unwrap_or(0);
            c.restart_count == Some(0) && now > 0 && now != pid
        })
        .await;
        engine
            .container_remove("survivor", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
        // What an earlier daemon was making, starting or removing goes; what somebody else put there does not.
        engine.container_create(Some("idle"), None, script("true")).await.unwrap();
        let idle = engine.container_inspect("idle", false).await.unwrap().id.unwrap();
        engine.shutdown().await;
        drop(engine);
        let shared = host.dir.path().join("exec/shm");
        for id in [&idle, &"f".repeat(64)] {
            let at = shared.join(id);
            std::fs::create_dir_all(&at).unwrap();
            sh(&format!("mount -t tmpfs left {}", at.display()));
        }
        for name in [".making-1", ".removed-1"] {
            std::fs::create_dir(containers.join(name)).unwrap();
            std::fs::write(containers.join(name).join("notes"), "x").unwrap();
        }
        next_engine(&host).await;
        // In any order: an id may begin with whatever hex digit.
        let left = sh(&format!("ls -A {}", containers.display()));
        let left: std::collections::BTreeSet<&str> = left.lines().collect();
        assert_eq!(left, [idle.as_str(), "backup", "notes.7.new"].into());
        assert_eq!(sh(&format!("ls -A {}", shared.display())), "", "shared memory is left");
    });
}

/// Starts an engine once the store's lock, which goes with the last handle of the one before, is free.
async fn next_engine(host: &Host) -> Engine {
    let started = std::sync::Mutex::new(None);
    until("the next engine", || async {
        match Engine::start(host.config()).await {
            Ok(engine) => started.lock().unwrap().replace(engine).is_none(),
            Err(_) => false,
        }
    })
    .await;
    started.into_inner().unwrap().unwrap()
}

#[test]
fn a_damaged_record_leaves_its_container_alone() {
    on_a_host("adoption::a_damaged_record_leaves_its_container_alone", |host: Host| async move {
        killed_daemon(&host).await;
        let containers = host.dir.path().join("data/containers");
        let id = sh(&format!("ls {}", containers.display())).trim().to_owned();
        let file = containers.join(&id).join("config.json");
        let whole = std::fs::read(&file).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        let pid = record["state"]["pid"].as_i64().unwrap();
        let cables = sh("ip -o link | grep -c veth");
        let lives = || {
            sh(&format!(
                "kill -0 {pid} && ls {}/data/image/rw/{id}/upper",
                host.dir.path().display()
            ));
            assert_eq!(sh("ip -o link | grep -c veth"), cables);
        };
        let newer = r#"{"format":99,"name":"survivor","config":{"Labels":{"of":"a task"}},"state":"of another shape"}"#;
        let cut = std::str::from_utf8(&whole).unwrap();
        let cut = &cut[..cut.find("host_config").unwrap()];
        // Where the record does not say the name, the network does.
        for (content, name, says) in [
            (Some(""), "survivor", "it is empty"),
            (Some("{\"id\":"), "survivor", "it is damaged"),
            (Some(newer), "survivor", "newer version"),
            (Some(cut), "survivor", "it is damaged"),
            (None, "survivor", "config.json is missing"),
        ] {
            match content {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let engine = next_engine(&host).await;
            let all = ListOptions { all: true, ..ListOptions::default() };
            let list = engine.container_list(all).await.unwrap();
            assert_eq!(list.len(), 1);
            let (status, names) = (list[0].status.clone().unwrap(), list[0].names.clone().unwrap());
            assert_eq!(status, "Dead (damaged: see docker inspect)");
            assert!(names[0].contains(name), "{names:?}");
            // The swarm finds its tasks' containers by labels.
            let found = engine.containers_labelled("of", Some("a task")).len();
            assert_eq!(
                found,
                usize::from([Some(newer), Some(cut)].contains(&content)),
                "{content:?}"
            );
            let state = engine.container_inspect(&id[..12], false).await.unwrap().state.unwrap();
            assert_eq!((state.dead, state.running), (Some(true), Some(false)));
            let reason = state.error.unwrap();
            assert!(reason.contains(says) && reason.contains("repair the file"), "{reason}");
            let warnings = engine.system_info().await.unwrap().warnings.unwrap();
            assert!(warnings.iter().any(|w| w.contains(says)), "{warnings:?}");
            // Nothing is done with it, or because of what it may use.
            let refused = engine.container_start(&id).await.unwrap_err();
            assert!(matches!(refused, EngineError::ContainerDamaged { .. }), "{refused}");
            assert!(refused.to_string().contains(&reason), "{refused}");
            let stop = engine.container_stop(&id, Default::default()).await.unwrap_err();
            assert!(matches!(stop, EngineError::ContainerDamaged { .. }), "{stop}");
            let prune = engine.volume_prune(&Default::default()).await.unwrap_err();
            assert!(matches!(prune, EngineError::UsesUnknown { .. }), "{prune}");
            // It may use any volume that no other container names.
            let spare = VolumeCreateRequest {
                name: Some("spare".into()),
                ..VolumeCreateRequest::default()
            };
            engine.volume_create(spare).await.unwrap();
            let volume = engine.volume_remove("spare", true).await.unwrap_err();
            assert_eq!(volume.kind(), ErrorKind::Conflict);
            for part in ["survivor", "config.json", "docker rm -f"] {
                assert!(volume.to_string().contains(part), "{volume}");
            }
            engine.volume_remove("none", true).await.unwrap();
            let prune = engine.network_prune(&Default::default()).await.unwrap_err();
            assert!(matches!(prune, EngineError::UsesUnknown { .. }), "{prune}");
            let prune = engine.image_prune(&Default::default()).await.unwrap_err();
            assert!(matches!(prune, EngineError::UsesUnknown { .. }), "{prune}");
            let pruned = engine.container_prune(&Default::default()).await.unwrap();
            assert_eq!(pruned.containers_deleted.unwrap_or_default(), Vec::<String>::new());
            let rm = engine.container_remove(&id, RemoveOptions::default()).await.unwrap_err();
            assert!(matches!(rm, EngineError::RemoveRunning { .. }), "{rm}");
            assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), content);
            lives();
            engine.shutdown().await;
        }
        // Repaired, it is what it was.
        std::fs::write(&file, &whole).unwrap();
        let engine = next_engine(&host).await;
        let c = engine.container_inspect("survivor", false).await.unwrap();
        assert_eq!(c.state.unwrap().pid, Some(pid));
        let settings = c.network_settings.unwrap();
        assert_eq!(settings.networks.unwrap()["bridge"].ip_address.as_deref(), Some("172.17.0.2"));
        lives();
        // Unless another has taken its name meanwhile: then it gets one that it keeps.
        engine.container_rename("survivor", "aside").await.unwrap();
        let other = engine.container_create(Some("survivor"), None, script("true")).await;
        let other = other.unwrap().id;
        engine.shutdown().await;
        drop(engine);
        std::fs::write(&file, &whole).unwrap();
        let given = format!("survivor_{}", &id[..12]);
        for warned in [true, false] {
            let engine = next_engine(&host).await;
            for (name, id) in [("survivor", &other), (given.as_str(), &id)] {
                let found = engine.container_inspect(name, false).await.unwrap();
                assert_eq!(found.id.as_ref(), Some(id), "{name}");
            }
            let warnings = engine.system_info().await.unwrap().warnings.unwrap();
            assert_eq!(warnings.iter().any(|w| w.contains(&given)), warned, "{warnings:?}");
            lives();
            engine.shutdown().await;
        }
        let engine = next_engine(&host).await;
        engine.container_remove(&other, RemoveOptions::default()).await.unwrap();
        engine.shutdown().await;
        drop(engine);
        // Who made it and has no use for it any more has it ended; what it wrote stays until it is removed.
        std::fs::write(&file, "").unwrap();
        let engine = next_engine(&host).await;
        assert_eq!(engine.container_without_labels(&given), Some(id.clone()));
        engine.container_end_damaged(&id).await.unwrap();
        assert_eq!(sh("ip -o link | grep -c veth || true"), "0\n");
        let left = format!(
            "cd {}; kill -0 {pid} 2>/dev/null && echo lives; ls data/containers data/image/rw/{id}",
            host.dir.path().display()
        );
        assert_eq!(
            sh(&left),
            format!("data/containers:\n{id}\n\ndata/image/rw/{id}:\nmerged\nparent\nupper\nwork\n")
        );
        assert_eq!(std::fs::read(&file).unwrap(), b"");
        // Or removed, if the user says so, with everything.
        let force = RemoveOptions { force: true, ..RemoveOptions::default() };
        engine.container_remove(&id, force).await.unwrap();
        assert_eq!(sh("ip -o link | grep -c veth || true"), "0\n");
        assert_eq!(
            sh(&format!(
                "cd {}; kill -0 {pid} 2>/dev/null && echo lives; ls data/image/rw data/containers exec/containers",
                host.dir.path().display()
            )),
            "data/containers:\n\ndata/image/rw:\n\nexec/containers:\n"
        );
    });
}

/// The pids of shims of a host, by their command lines.
fn shims(host: &Host) -> Vec<String> {
    let found = sh(&format!("pgrep -f '[s]him {}' || true", host.dir.path().display()));
    found.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_shim_that_hangs_keeps_its_container_and_one_without_a_record_goes() {
    let name = "adoption::a_shim_that_hangs_keeps_its_container_and_one_without_a_record_goes";
    on_a_host(name, |host: Host| async move {
        let engine = host.engine().await;
        engine.container_create(Some("ghost"), None, script("sleep 600")).await.unwrap();
        engine.container_start("ghost").await.unwrap();
        let ghost = engine.container_inspect("ghost", false).await.unwrap();
        let (ghost, ghost_pid) = (ghost.id.unwrap(), ghost.state.unwrap().pid.unwrap());
        let [ghost_shim] = shims(&host).try_into().unwrap();
        engine.shutdown().await;
        drop(engine);
        // The folder went in a removal, the bundle with it, and the shim was overlooked.
        for folder in ["data/containers", "exec/containers"] {
            std::fs::remove_dir_all(host.dir.path().join(folder).join(&ghost)).unwrap();
        }
        let mut child = daemon(&host);
        child.kill().expect("kill");
        child.wait().expect("wait");
        until("the ghost's end", || async { !shims(&host).contains(&ghost_shim) }).await;
        assert!(!std::path::Path::new(&format!("/proc/{ghost_pid}/exe")).exists());

        let [shim] = shims(&host).try_into().unwrap();
        sh(&format!("kill -STOP {shim}"));
        let engine = Engine::start(host.config()).await.expect("start");
        let c = engine.container_inspect("survivor", false).await.unwrap();
        let state = c.state.unwrap();
        assert_eq!((state.running, c.restart_count), (Some(true), Some(0)));
        engine
            .container_remove("survivor", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
        assert_eq!(shims(&host), <[String; 0]>::default());
        let pid = state.pid.unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    });
}

/// The process of `survivor`, as the record says.
fn recorded_pid(host: &Host) -> (String, i64) {
    let folder = host.dir.path().join("data/containers");
    let id = sh(&format!("ls {}", folder.display())).trim().to_owned();
    let record = std::fs::read(folder.join(&id).join("config.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    (id, record["state"]["pid"].as_i64().unwrap())
}

fn lives(pid: i64) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
}

#[test]
fn a_shim_that_cannot_be_reached_ends_no_container() {
    let name = "adoption::a_shim_that_cannot_be_reached_ends_no_container";
    on_a_host(name, |host: Host| async move {
        killed_daemon(&host).await;
        let (id, pid) = recorded_pid(&host);
        let bundle = host.dir.path().join("exec/containers").join(&id);
        // Its processes are what says that it runs.
        let (socket, aside) = (bundle.join("shim.sock"), bundle.join("aside"));
        let hide = || std::fs::rename(&socket, &aside).unwrap();
        hide();
        let engine = Engine::start(host.config()).await.expect("start");
        let state = |engine: Engine| async move {
            engine.container_inspect("survivor", false).await.unwrap().state.unwrap()
        };
        assert_eq!(state(engine.clone()).await.pid, Some(pid));
        assert!(lives(pid));
        for refused in [
            engine.container_stop("survivor", Default::default()).await.unwrap_err(),
            engine.container_kill("survivor", None).await.unwrap_err(),
            engine.container_top("survivor", "").await.unwrap_err(),
            engine.container_remove("survivor", RemoveOptions::default()).await.unwrap_err(),
        ] {
            let running = matches!(refused, EngineError::RemoveRunning { .. });
            assert!(running || matches!(refused, EngineError::ShimUnreached { .. }), "{refused}");
        }
        // Reached again, it is as it was.
        std::fs::rename(&aside, &socket).unwrap();
        until("the shim is reached", || async {
            engine.container_top("survivor", "").await.is_ok()
        })
        .await;
        let now = state(engine.clone()).await;
        assert_eq!((now.running, now.pid), (Some(true), Some(pid)));

        // The shim goes, and how the container ended cannot be read: nothing says that it has ended.
        let exit = bundle.join("exit.json");
        std::fs::create_dir(&exit).unwrap();
        let [shim] = shims(&host).try_into().unwrap();
        sh(&format!("kill -9 {shim}"));
        until("the shim is missed", || async {
            let top = engine.container_top("survivor", "").await;
            matches!(top, Err(EngineError::ShimUnreached { .. }))
        })
        .await;
        assert!(lives(pid) && state(engine.clone()).await.running == Some(true));
        std::fs::remove_dir(&exit).unwrap();
        until("its end, after which its policy starts it again", || async {
            let now = state(engine.clone()).await.pid;
            now != Some(pid) && now > Some(0)
        })
        .await;
        assert!(!lives(pid));

        // By force it goes, whether it can be asked or not.
        engine.shutdown().await;
        drop(engine);
        let pid = recorded_pid(&host).1;
        hide();
        let engine = next_engine(&host).await;
        assert!(lives(pid));
        let force = RemoveOptions { force: true, ..RemoveOptions::default() };
        engine.container_remove("survivor", force).await.unwrap();
        assert!(!lives(pid));
        assert_eq!(shims(&host), <[String; 0]>::default());
        assert!(!bundle.exists());
    });
}

#[test]
fn a_start_that_did_not_reach_the_record_is_no_reason_to_end_a_container() {
    let name = "adoption::a_start_that_did_not_reach_the_record_is_no_reason_to_end_a_container";
    on_a_host(name, |host: Host| async move {
        killed_daemon(&host).await;
        let (id, pid) = recorded_pid(&host);
        // As it was when the disk was full: the record is of before the start, or of the run before it.
        let file = host.dir.path().join("data/containers").join(&id).join("config.json");
        let whole: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let (begun, at) = (&whole["state"]["started_at"], "2020-01-01T00:00:00Z");
        let created = serde_json::json!({ "phase": "created", "pid": 0, "exit_code": 0 });
        let earlier = serde_json::json!({
            "phase": "running", "pid": 1, "exit_code": 0, "started_at": at, "sandbox": "earlier",
        });
        let exited = serde_json::json!({
            "phase": "exited", "pid": 0, "exit_code": 7, "started_at": at, "finished_at": at,
        });
        for stale in [created, earlier, exited] {
            let mut record = whole.clone();
            record["state"] = stale.clone();
            std::fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
            let engine = next_engine(&host).await;
            let c = engine.container_inspect("survivor", false).await.unwrap();
            let state = c.state.unwrap();
            assert_eq!((state.running, state.pid), (Some(true), Some(pid)), "{stale}");
            assert_eq!(state.exit_code, Some(0), "{stale}");
            assert!(lives(pid));
            let networks = c.network_settings.unwrap().networks.unwrap();
            assert_eq!(networks["bridge"].ip_address.as_deref(), Some("172.17.0.2"), "{stale}");
            let list = engine.container_list(ListOptions::default()).await.unwrap();
            let ports = list[0].ports.clone().unwrap();
            assert_eq!(ports.first().and_then(|p| p.public_port), Some(9000), "{stale}");
            let noted: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            assert_eq!(noted["state"]["pid"], pid, "{stale}");
            assert_eq!(noted["state"]["sandbox"], whole["state"]["sandbox"], "{stale}");
            assert_eq!(noted["state"]["started_at"], *begun, "{stale}");
            engine.shutdown().await;
        }
        let engine = next_engine(&host).await;
        let now = skep_engine::StopOptions { timeout: Some(0), signal: None };
        engine.container_stop("survivor", now).await.unwrap();
        assert!(!lives(pid));
        engine.container_remove("survivor", RemoveOptions::default()).await.unwrap();
    });
}

#[test]
fn a_restart_does_not_stop_what_it_cannot_start() {
    let name = "adoption::a_restart_does_not_stop_what_it_cannot_start";
    on_a_host(name, |host: Host| async move {
        killed_daemon(&host).await;
        let (id, pid) = recorded_pid(&host);
        let parent = host.dir.path().join("data/image/rw").join(&id).join("parent");
        let target = std::fs::read_link(&parent).unwrap();
        let put = |target: &std::path::Path| {
            std::fs::remove_file(&parent).unwrap();
            std::os::unix::fs::symlink(target, &parent).unwrap();
        };
        put(std::path::Path::new("xx"));
        let engine = next_engine(&host).await;
        let now = || skep_engine::StopOptions { timeout: Some(0), signal: None };
        let refused = engine.container_restart("survivor", now()).await.unwrap_err().report();
        assert!(refused.contains(parent.to_str().unwrap()), "{refused}");
        let state = engine.container_inspect("survivor", false).await.unwrap().state.unwrap();
        assert_eq!((state.running, state.pid), (Some(true), Some(pid)));
        assert!(lives(pid));
        // Repaired, it is read again without another daemon.
        put(&target);
        engine.container_restart("survivor", now()).await.unwrap();
        assert!(!lives(pid));
        let force = RemoveOptions { force: true, ..RemoveOptions::default() };
        engine.container_remove("survivor", force).await.unwrap();
    });
}
