//! Volumes, mounts, copies in and out.

use bollard_stubs::models::{
    ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest,
};
use futures::StreamExt;
use skep_engine::{ErrorKind, Filters, PutArchiveOptions, RemoveOptions};

use crate::host::{Host, on_a_host, run, script_with};

fn binds(list: &[&str]) -> HostConfig {
    HostConfig {
        binds: Some(list.iter().map(|b| (*b).to_owned()).collect()),
        ..HostConfig::default()
    }
}

#[test]
fn volumes() {
    on_a_host("files::volumes", |host: Host| async move {
        let engine = host.engine().await;
        // A new volume gets the image's content and keeps what is written to it.
        let out = run(
            &engine,
            script_with(
                "cat /data/seed; stat -c %u /data/seed; echo new > /data/mine",
                binds(&["vol:/data"]),
            ),
        )
        .await;
        assert_eq!(out.stdout, "from the image\n33\n", "{}", out.stderr);
        let out =
            run(&engine, script_with("cat /data/mine; touch /data/x", binds(&["vol:/data:ro"])))
                .await;
        assert_eq!(out.stdout, "new\n");
        assert!(out.stderr.contains("Read-only"), "{}", out.stderr);
        let bind = host.dir.path().join("made/by/bind");
        let out = run(
            &engine,
            script_with("echo hi > /b/f", binds(&[&format!("{}:/b", bind.display())])),
        )
        .await;
        assert_eq!(
            (out.code, std::fs::read_to_string(bind.join("f")).unwrap().as_str()),
            (0, "hi\n")
        );

        engine
            .container_create(Some("user"), None, script_with("true", binds(&["vol:/data"])))
            .await
            .unwrap();
        assert_eq!(
            engine.volume_remove("vol", false).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
        let from =
            HostConfig { volumes_from: Some(vec!["user:ro".into()]), ..HostConfig::default() };
        let out = run(&engine, script_with("cat /data/mine", from)).await;
        assert_eq!(out.stdout, "new\n", "{}", out.stderr);
        engine.container_remove("user", RemoveOptions::default()).await.unwrap();
        engine.volume_remove("vol", false).await.unwrap();
        assert_eq!(
            engine.volume_remove("vol", false).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );

        // A volume with a mount of its own.
        let request = VolumeCreateRequest {
            name: Some("mem".into()),
            driver_opts: Some(
                [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
            ),
            ..Default::default()
        };
        engine.volume_create(request).await.unwrap();
        let out = run(
            &engine,
            script_with("df -k /m | tail -1 | awk '{print $1, $2}'", binds(&["mem:/m"])),
        )
        .await;
        assert_eq!(out.stdout, "tmpfs 1024\n", "{}", out.stderr);
        let pruned = engine.volume_prune(&Filters::new().with("all", "true")).await.unwrap();
        assert_eq!(pruned.volumes_deleted.unwrap(), ["mem"]);

        let missing = Mount {
            typ: Some(MountType::BIND),
            source: Some("/not/there".into()),
            target: Some("/b".into()),
            ..Default::default()
        };
        let body =
            script_with("true", HostConfig { mounts: Some(vec![missing]), ..Default::default() });
        let error = engine.container_create(None, None, body).await.unwrap_err();
        assert!(
            error.to_string().contains("bind source path does not exist: /not/there"),
            "{error}"
        );
        let subpath = Mount {
            typ: Some(MountType::TMPFS),
            target: Some("/t".into()),
            tmpfs_options: Some(bollard_stubs::models::MountTmpfsOptions {
                size_bytes: Some(1 << 20),
                mode: Some(0o700),
                options: None,
            }),
            ..Default::default()
        };
        let out = run(
            &engine,
            script_with(
                "stat -c %a /t",
                HostConfig { mounts: Some(vec![subpath]), ..Default::default() },
            ),
        )
        .await;
        assert_eq!(out.stdout, "700\n", "{}", out.stderr);
    });
}

async fn bytes(mut stream: skep_engine::ByteStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    all
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn copies_in_and_out() {
    on_a_host("files::copies_in_and_out", |host: Host| async move {
        let engine = host.engine().await;
        let body = ContainerCreateBody {
            ..script_with("mkdir /d; echo x > /d/f; sleep 60", binds(&["vol:/data"]))
        };
        engine.container_create(Some("c1"), None, body).await.unwrap();
        let put = |path: &'static str, name: &'static str| {
            let engine = engine.clone();
            async move {
                let mut builder = tar::Builder::new(Vec::new());
                let mut header = tar::Header::new_gnu();
                header.set_size(2);
                header.set_mode(0o644);
                builder.append_data(&mut header, name, &b"hi"[..]).unwrap();
                let tar = std::io::Cursor::new(builder.into_inner().unwrap());
                engine.container_archive_put("c1", path, PutArchiveOptions::default(), tar).await
            }
        };
        // Stopped: into the root, and into a volume.
        put("/", "etc/motd").await.unwrap();
        put("/data", "inside").await.unwrap();
        assert_eq!(put("/nope", "x").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(put("/etc/passwd", "x").await.unwrap_err().kind(), ErrorKind::InvalidParameter);
        let (stat, tar) = engine.container_archive_get("c1", "/data/inside").await.unwrap();
        assert_eq!((stat.name.as_str(), stat.size), ("inside", 2));
        assert_eq!(names(&bytes(tar).await), ["inside"]);
        // Running: as the container sees it.
        engine.container_start("c1").await.unwrap();
        crate::host::until("the file in the container", || async {
            engine.container_archive_stat("c1", "/d/f").await.is_ok()
        })
        .await;
        let (_, tar) = engine.container_archive_get("c1", "/d/.").await.unwrap();
        assert_eq!(names(&bytes(tar).await), ["d/", "d/f"]);
        assert!(engine.container_archive_stat("c1", "/etc/hosts").await.unwrap().size > 0);
        // All of it, without what the kernel and the runtime show there.
        let (_, tar) = engine.container_archive_get("c1", "/").await.unwrap();
        let all = names(&bytes(tar).await);
        for there in ["proc/", "sys/", "dev/", "data/inside", "d/f", "etc/hosts"] {
            assert!(all.iter().any(|n| n == there), "{there}: {all:?}");
        }
        let below = |n: &&String| {
            ["proc/", "sys/", "dev/"].iter().any(|d| n.len() > d.len() && n.starts_with(d))
        };
        assert_eq!(all.iter().find(below), None);
        for folder in ["/proc", "/sys", "/dev"] {
            let (_, tar) = engine.container_archive_get("c1", folder).await.unwrap();
            assert_eq!(names(&bytes(tar).await), [format!("{}/", &folder[1..])]);
        }
        // What is mounted there gets new content and stays mounted; other mounts are not replaced.
        put("/etc", "hosts").await.unwrap();
        assert!(put("/", "data").await.unwrap_err().report().contains("busy"));
        let hosts = engine.container_archive_stat("c1", "/etc/hosts").await.unwrap();
        assert_eq!(hosts.size, 2);
        let own = engine.config().data_root.join("containers");
        let own = crate::host::sh(&format!("cat {}/*/hosts", own.display()));
        assert_eq!(own, "hi");
        let changes = engine.container_changes("c1").await.unwrap();
        let lines: Vec<String> = changes.iter().map(|c| format!("{} {}", c.kind, c.path)).collect();
        assert!(
            lines.contains(&"1 /d/f".to_owned()) && lines.contains(&"1 /etc/motd".to_owned()),
            "{lines:?}"
        );
        let exported = names(&bytes(engine.container_export("c1").await.unwrap()).await);
        assert!(exported.iter().any(|n| n.trim_start_matches("./") == "d/f"), "{exported:?}");
        let id = engine
            .container_commit(
                "c1",
                Some("snap:1"),
                vec!["CMD [\"cat\",\"/d/f\"]".into()],
                "",
                "",
                true,
            )
            .await
            .unwrap();
        assert_eq!(engine.image_inspect("snap:1").await.unwrap().id.as_deref(), Some(id.as_str()));
        engine
            .container_remove("c1", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
        let body = ContainerCreateBody { image: Some("snap:1".into()), ..Default::default() };
        assert_eq!(run(&engine, body).await.stdout, "x\n");
    });
}

#[test]
fn a_create_that_fails_leaves_the_volumes_as_they_were() {
    let name = "files::a_create_that_fails_leaves_the_volumes_as_they_were";
    on_a_host(name, |host: Host| async move {
        let engine = host.engine().await;
        let before = VolumeCreateRequest { name: Some("before".into()), ..Default::default() };
        engine.volume_create(before).await.unwrap();
        // One that the image's content does not go into.
        let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "nr_inodes=1")];
        let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let driver = bollard_stubs::models::MountVolumeOptionsDriverConfig {
            name: None,
            options: Some(options),
        };
        let small = Mount {
            typ: Some(MountType::VOLUME),
            source: Some("small".into()),
            target: Some("/data".into()),
            volume_options: Some(bollard_stubs::models::MountVolumeOptions {
                driver_config: Some(driver),
                ..Default::default()
            }),
            ..Default::default()
        };
        let body = script_with(
            "true",
            HostConfig { mounts: Some(vec![small]), ..binds(&["before:/before", "new:/data/new"]) },
        );
        let error = engine.container_create(Some("copy"), None, body).await.unwrap_err();
        assert!(error.report().contains("copy the image's content"), "{}", error.report());
        let volumes = engine.volume_list(&Filters::new()).await.unwrap().volumes.unwrap();
        assert_eq!(volumes.into_iter().map(|v| v.name).collect::<Vec<_>>(), ["before"]);
        let folder = host.dir.path().join("data/volumes");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    });
}

fn part(volume: &str, subpath: &str) -> HostConfig {
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.into()),
        target: Some("/m".into()),
        volume_options: Some(bollard_stubs::models::MountVolumeOptions {
            subpath: Some(subpath.into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    HostConfig { mounts: Some(vec![mount]), ..Default::default() }
}

#[test]
fn parts_of_volumes_stay_in_them() {
    on_a_host("files::parts_of_volumes_stay_in_them", |host: Host| async move {
        let engine = host.engine().await;
        let fill = "mkdir /v/s; echo mine >/v/s/f; ln -s / /v/out; ln -s s /v/in";
        let out = run(&engine, script_with(fill, binds(&["vol:/v"]))).await;
        assert_eq!(out.code, 0, "{}", out.stderr);
        for subpath in ["s", "in"] {
            let out =
                run(&engine, script_with("cat /m/f; echo more >/m/g", part("vol", subpath))).await;
            assert_eq!(out.stdout, "mine\n", "{}", out.stderr);
        }
        let out = run(&engine, script_with("cat /m; stat -c %F /m", part("vol", "s/g"))).await;
        assert_eq!(out.stdout, "more\nregular file\n", "{}", out.stderr);
        engine
            .container_create(Some("out"), None, script_with("ls /m", part("vol", "out")))
            .await
            .unwrap();
        let error = engine.container_start("out").await.unwrap_err().report();
        assert!(
            error.starts_with("cannot access path") && error.contains("vol/_data/out"),
            "{error}"
        );
        // Neither do copies into a container that does not run.
        let error = engine.container_archive_get("out", "/m/etc").await.map(|_| ()).unwrap_err();
        assert!(error.report().contains("vol/_data/out"), "{}", error.report());
        engine
            .container_create(Some("in"), None, script_with("true", part("vol", "s")))
            .await
            .unwrap();
        let (_, tar) = engine.container_archive_get("in", "/m/f").await.unwrap();
        assert_eq!(names(&bytes(tar).await), ["f"]);
        // Nothing of it stays in the host's table.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("/subpaths/"), "{mounts}");
    });
}

#[test]
fn mount_points_that_links_name() {
    on_a_host("files::mount_points_that_links_name", |host: Host| async move {
        let engine = host.engine().await;
        let look =
            "for f in resolv.conf hosts hostname; do test -s /etc/$f; stat -Lc %a:%s /etc/$f; done
            cat /etc/hostname; cat /etc/deep/seed";
        let body = ContainerCreateBody {
            hostname: Some("box".into()),
            ..script_with(look, binds(&["deep:/etc/deep"]))
        };
        engine.container_create(Some("c1"), None, body).await.unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for (link, target) in [
            ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
            ("etc/hosts", "/nowhere/hosts"),
            ("etc/hostname", "hosts.d/name"),
            ("etc/deep", "/var/lib/deep"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, link, target).unwrap();
        }
        let tar = std::io::Cursor::new(builder.into_inner().unwrap());
        engine.container_archive_put("c1", "/", PutArchiveOptions::default(), tar).await.unwrap();
        engine.container_start("c1").await.unwrap();
        crate::host::until("its end", || async {
            crate::host::log(&engine, "c1").await.lines().count() >= 4
        })
        .await;
        let log = crate::host::log(&engine, "c1").await;
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[..3].iter().all(|line| !line.ends_with(":0")), "{log}");
        assert_eq!(lines[3], "box", "{log}");
    });
}
