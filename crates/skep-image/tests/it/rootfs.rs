//! Container file systems on the real kernel.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::Arc,
    time::Instant,
};

use skep_image::{ChangeKind, CommitOptions, Images, MountOptions, Reference, RemoveOptions, Root};

use crate::support::{Layer, Store, busybox, collect, config, docker_archive, read, small};

/// Unmounts also when a test fails.
struct Mounted<'a>(&'a Images, &'a str);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = self.0.remove_rw(self.1);
    }
}

fn chroot(root: &Root, line: &str) -> String {
    let (own, fd) = (std::process::id(), root.as_fd().as_raw_fd());
    let output = Command::new("chroot")
        .arg(format!("/proc/{own}/fd/{fd}"))
        .args(["/bin/busybox", "sh", "-c", line])
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_container_writes_and_its_changes_are_seen() {
    let store = Store::new();
    let images = &store.images;
    let layers = vec![
        busybox(),
        Layer::new()
            .dir("data/")
            .file("data/keep", b"k")
            .file("data/edit", b"e")
            .file("data/drop", b"d")
            .dir("gone/")
            .file("gone/a", b"")
            .file("gone/b", b"")
            .done(),
    ];
    let cfg = config(&layers, serde_json::json!({}));
    let id = store.load(docker_archive(&["box:latest"], &layers, cfg)).await.unwrap()[0].id;
    images.prepare_rw("c1", &id).unwrap();
    let _guard = Mounted(images, "c1");
    assert!(images.prepare_rw("c1", &id).is_err());
    assert!(images.prepare_rw("../c1", &id).is_err());
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("/c1/");
    let root = images.mount("c1", MountOptions::default()).unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let work = images.rw("c1").unwrap().work;
    assert_eq!([mode(&root.path()), mode(&work)], [0o755, 0o700], "root and work folder");
    // Who looks at the same time shares it, whether it is to run or not: a second mount would take
    // the first one's working folder away.
    let same = |other: &Arc<Root>| Arc::ptr_eq(other, &root);
    assert!(same(&images.mount("c1", MountOptions::default()).unwrap()));
    assert!(same(&images.mount_to_run("c1", MountOptions::default()).unwrap()));
    assert!(same(&images.mount("c1", MountOptions::default()).unwrap()));
    // Nobody else sees it.
    assert!(!mounts());
    assert!(images.changes("c1").await.unwrap().is_empty());
    chroot(
        &root,
        "echo more >> /data/edit; rm /data/drop; echo n > /data/new; rm -r /gone; mkdir -p /gone /dir/sub; echo b > /gone/b; touch /etc/hosts",
    );
    let changes = images.changes("c1").await.unwrap();
    let text: Vec<String> = changes.iter().map(|c| format!("{} {}", c.kind, c.path)).collect();
    assert_eq!(
        text,
        [
            "C /data",
            "D /data/drop",
            "C /data/edit",
            "A /data/new",
            "A /dir",
            "A /dir/sub",
            "C /gone",
            "D /gone/a",
            "C /gone/b"
        ]
    );
    assert_eq!(changes[1].kind, ChangeKind::Deleted);
    assert_eq!(images.rw_size("c1").await.unwrap(), 6 + 2 + 2);

    let diff = crate::support::members(&collect(images.diff("c1").unwrap()).await.unwrap());
    assert!(
        diff.contains_key("data/.wh.drop") && diff.contains_key("gone/.wh..wh..opq"),
        "{:?}",
        diff.keys()
    );

    let options = CommitOptions {
        reference: Some(Reference::parse("box:changed").unwrap()),
        base: Some(id),
        changes: vec!["CMD [\"x\"]".into()],
        created_by: "sh".into(),
        ..CommitOptions::default()
    };
    let committed = images.commit("c1", options).await.unwrap();
    let image = images.get("box:changed").unwrap();
    assert_eq!((image.id, image.parent), (committed, Some(id)));
    images.prepare_rw("c2", &committed).unwrap();
    let _guard = Mounted(images, "c2");
    let changed = images.mount("c2", MountOptions::default()).unwrap();
    assert_eq!(
        chroot(&changed, "cd /data; busybox ls || /bin/busybox ls; cat edit; echo /gone/*"),
        "edit\nkeep\nnew\nemore\n/gone/b\n"
    );
    assert_eq!(images.history("box:changed").unwrap()[0].created_by, "sh");
}

#[tokio::test]
async fn layers_outlive_their_image_and_restarts() {
    let store = Store::new();
    let id = store.load(small("x:1", "still here")).await.unwrap()[0].id;
    store.images.prepare_rw("c1", &id).unwrap();
    let root = store.images.mount("c1", MountOptions::default()).unwrap();
    std::fs::write(root.path().join("mine"), b"written").unwrap();
    drop(root);
    let force = RemoveOptions { force: true, ..Default::default() };
    store.images.remove("x:1", force, |_| Vec::new()).await.unwrap();
    let store = store.reopen();
    let _guard = Mounted(&store.images, "c1");
    assert_eq!(store.images.rw_layers(), ["c1"]);
    assert_eq!(store.images.count(), 0);
    store.images.unmount("c1").unwrap();
    store.images.unmount("c1").unwrap();
    let root = store.images.mount("c1", MountOptions::default()).unwrap();
    assert_eq!(read(root.path().join("mine")), "written");
    assert_eq!(read(root.path().join("etc/which")), "still here");
    drop(root);
    store.images.remove_rw("c1").unwrap();
    store.images.remove_rw("c1").unwrap();
    store.assert_empty().await;
}

#[tokio::test]
async fn many_layers_mount() {
    let store = Store::new();
    let layers: Vec<Vec<u8>> =
        (0..120).map(|n| Layer::new().file(&format!("f{n}"), b"x").done()).collect();
    let cfg = config(&layers, serde_json::json!({}));
    let id = store.load(docker_archive(&["deep:latest"], &layers, cfg)).await.unwrap()[0].id;
    store.images.prepare_rw("deep", &id).unwrap();
    let _guard = Mounted(&store.images, "deep");
    let root = store.images.mount("deep", MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 120);
}

#[tokio::test]
async fn an_image_without_layers_mounts() {
    let store = Store::new();
    let cfg = config(&[], serde_json::json!({}));
    let id = store.load(docker_archive(&["void:latest"], &[], cfg)).await.unwrap()[0].id;
    store.images.prepare_rw("void", &id).unwrap();
    let _guard = Mounted(&store.images, "void");
    let volatile = || MountOptions { volatile: true, ..Default::default() };
    let root = store.images.mount("void", volatile()).unwrap();
    std::fs::write(root.path().join("f"), b"x").unwrap();
    drop(root);
    let root = store.images.mount("void", volatile()).unwrap();
    assert_eq!(read(root.path().join("f")), "x");
}

#[tokio::test]
async fn a_root_is_ready_within_milliseconds() {
    let store = Store::new();
    let layers = vec![busybox(), Layer::new().file("a", b"").done()];
    let cfg = config(&layers, serde_json::json!({}));
    let id = store.load(docker_archive(&["fast:latest"], &layers, cfg)).await.unwrap()[0].id;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for n in 0..20 {
        let name = format!("c{n}");
        let _guard = Mounted(&store.images, &name);
        let start = Instant::now();
        store.images.prepare_rw(&name, &id).unwrap();
        let root = store
            .images
            .mount(&name, MountOptions { volatile: true, ..Default::default() })
            .unwrap();
        up.push(start.elapsed());
        std::fs::write(root.path().join("x"), b"x").unwrap();
        let start = Instant::now();
        drop(root);
        store.images.remove_rw(&name).unwrap();
        down.push(start.elapsed());
    }
    up.sort();
    down.sort();
    println!("prepare and mount: median {:?}; unmount and remove: median {:?}", up[10], down[10]);
    assert!(up[10].as_millis() < 20, "{up:?}");
}

/// What cannot be packed is refused with a sentence, before anything is sent.
#[tokio::test]
async fn a_container_that_is_nested_too_deeply_is_refused() {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let store = Store::new();
    let id = store.load(small("x:1", "x")).await.unwrap()[0].id;
    let rw = store.images.prepare_rw("c1", &id).unwrap();
    store.images.check_packable("c1").await.unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(&rw.upper, flags, Mode::empty()).unwrap();
    for _ in 0..3000 {
        mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    let export = store.images.check_packable("c1").await.unwrap_err();
    let commit = store.images.commit("c1", Default::default()).await.unwrap_err();
    for error in [export, commit] {
        let told = error.to_string();
        assert!(told.starts_with("/d/d/") && told.contains("is nested too deeply"), "{told}");
    }
    store.images.remove_rw("c1").unwrap();
}
