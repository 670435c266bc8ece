use super::*;
use crate::error::ErrorKind;

/// A plain volume.
fn plain(name: &str) -> VolumeSpec {
    VolumeSpec { name: name.into(), ..Default::default() }
}

/// One on a file server.
fn nfs(name: &str) -> VolumeSpec {
    let options = [("type", "nfs"), ("o", "addr=192.0.2.1"), ("device", ":/x")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    VolumeSpec { options, ..plain(name) }
}

fn temp() -> (tempfile::TempDir, Volumes) {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(dir.path().join("volumes")).unwrap();
    (dir, volumes)
}

#[test]
fn names() {
    for good in ["ab", "a.b", "0_x-y"] {
        check::volume_name(good).unwrap();
    }
    for bad in ["", "a", "-a", "a/b", "../x", "a b", &"x".repeat(256)] {
        assert!(check::volume_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn life_of_a_volume() {
    let (dir, volumes) = temp();
    let spec = plain("data");
    assert!(volumes.create(spec.clone(), Some("c1")).unwrap().1);
    assert!(!volumes.create(spec.clone(), None).unwrap().1);
    assert!(matches!(volumes.remove("data"), Err(EngineError::VolumeInUse { .. })));
    volumes.release("c1");
    std::fs::write(volumes.mountpoint("data").join("f"), "x").unwrap();
    let again = Volumes::open(dir.path().join("volumes")).unwrap();
    assert_eq!(again.get("data").unwrap().name, "data");
    volumes.remove("data").unwrap();
    assert!(matches!(volumes.remove("data"), Err(EngineError::NoSuchVolume(_))));
    assert_eq!(std::fs::read_dir(dir.path().join("volumes")).unwrap().count(), 0);
    let anonymous = volumes.create(VolumeSpec::default(), None).unwrap().0;
    assert_eq!(anonymous.name.len(), 64);
    assert!(anonymous.labels.contains_key(ANONYMOUS_LABEL));
    let plugin = VolumeSpec { driver: "nfsplug".into(), ..Default::default() };
    assert!(volumes.create(plugin, None).is_err());
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn somebodys_folder_is_a_volume_and_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("volumes");
    let put = |name: &str, file: &str| {
        let path = root.join(name).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "row").unwrap();
    };
    put("before", "_data/t");
    put("other", "notes");
    put("lost+found", "_data/t");
    let volumes = Volumes::open(root.clone()).unwrap();
    // Also while the daemon runs.
    put("while", "_data/t");
    put("made", "_data/t");
    let listed: Vec<String> = volumes.all().into_iter().map(|(r, _)| r.name).collect();
    assert_eq!(listed, ["before", "made", "while"]);
    assert_eq!(volumes.get("while").unwrap().damage, None);
    put("late", "_data/t");
    for (name, new) in [("before", false), ("while", false), ("late", false), ("other", true)] {
        assert_eq!(volumes.create(plain(name), None).unwrap().1, new, "{name}");
        volumes.activate(name, "c", 0).unwrap();
    }
    assert_eq!(std::fs::read(root.join("late/_data/t")).unwrap(), b"row");
    assert_eq!(std::fs::read(root.join("before/_data/t")).unwrap(), b"row");
    assert_eq!(files_below(&root.join("other")), ["_data", "notes", "volume.json"]);
    volumes.remove("made").unwrap();
    assert!(!root.join("made").exists());
}

#[test]
fn a_link_is_no_volume() {
    let dir = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (dir.path().join("volumes"), dir.path().join("elsewhere"));
    std::fs::create_dir_all(elsewhere.join("_data")).unwrap();
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.join("linked")).unwrap();
    std::fs::write(root.join("file"), "x").unwrap();
    let volumes = Volumes::open(root.clone()).unwrap();
    assert!(volumes.all().is_empty());
    for name in ["linked", "file"] {
        assert!(matches!(volumes.get(name), Err(EngineError::NoSuchVolume(_))));
        assert!(matches!(volumes.remove(name), Err(EngineError::NoSuchVolume(_))));
        let refused = volumes.create(plain(name), None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        assert!(refused.to_string().contains("is not a folder"), "{refused}");
    }
    assert_eq!(files_below(&root), ["file", "linked"]);
    assert_eq!(files_below(&elsewhere), ["_data"]);
}

#[test]
fn a_damaged_record_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("volumes");
    let volumes = Volumes::open(root.clone()).unwrap();
    for name in ["full", "empty"] {
        volumes.create(plain(name), None).unwrap();
    }
    std::fs::write(root.join("full/_data/t"), "row").unwrap();
    let whole = std::fs::read(root.join("full/volume.json")).unwrap();
    let newer = r#"{"format":2,"name":["another","shape"]}"#;
    for (damage, says) in [("", "empty"), ("{\"na", "damaged"), (newer, "newer")] {
        std::fs::write(root.join("full/volume.json"), damage).unwrap();
        std::fs::write(root.join("empty/volume.json"), damage).unwrap();
        let volumes = Volumes::open(root.clone()).unwrap();
        let found = volumes.get("full").unwrap();
        assert!(found.damage.as_ref().unwrap().contains(says), "{:?}", found.damage);
        let spec = plain("full");
        assert!(!volumes.create(spec, None).unwrap().1);
        volumes.activate("full", "c", 0).unwrap();
        // Nobody knows whether its content is elsewhere.
        let refused = volumes.activate("empty", "c", 0).unwrap_err();
        assert!(matches!(refused, EngineError::VolumeDamaged { .. }), "{refused}");
        assert_eq!(std::fs::read_to_string(root.join("full/volume.json")).unwrap(), damage);
        // Repaired, or without a record, it is used at once.
        std::fs::write(root.join("full/volume.json"), &whole).unwrap();
        assert_eq!(volumes.get("full").unwrap().damage, None);
        std::fs::remove_file(root.join("empty/volume.json")).unwrap();
        volumes.activate("empty", "c", 0).unwrap();
    }
    assert_eq!(std::fs::read(root.join("full/_data/t")).unwrap(), b"row");
    std::fs::write(root.join("full/volume.json"), "").unwrap();
    Volumes::open(root.clone()).unwrap().remove("full").unwrap();
    assert_eq!(files_below(&root), ["empty"]);
}

#[test]
fn only_what_we_were_making_or_removing_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("volumes");
    for name in [".making-1/_data", ".removed-1/_data", ".snapshots/_data", "half"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let volumes = Volumes::open(root.clone()).unwrap();
    assert_eq!(files_below(&root), [".snapshots", "half"]);
    assert!(volumes.all().is_empty());
    assert!(matches!(volumes.get("half"), Err(EngineError::NoSuchVolume(_))));
    assert!(matches!(volumes.get(".snapshots"), Err(EngineError::NoSuchVolume(_))));
}

#[test]
fn records_are_read_by_later_versions() {
    let read = |text: &str| stored_record(text).unwrap();
    // As written before records had a number, and with it.
    for text in [
        r#"{"name":"x","created":"2026-11-28T10:00:00Z","options":{"type":"tmpfs"},"labels":{"a":"b"}}"#,
        r#"{"format":1,"name":"x","created":"2026-11-28T10:00:00Z","options":{"type":"tmpfs"},"labels":{"a":"b"}}"#,
    ] {
        let record = read(text);
        assert_eq!(record.damage, None);
        assert_eq!((record.options["type"].as_str(), record.labels["a"].as_str()), ("tmpfs", "b"));
        assert_eq!(util::rfc3339(record.created), "2026-11-28T10:00:00Z");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(record::DATA)).unwrap();
    read(r#"{"name":"x","created":"2026-11-28T10:00:00Z"}"#).save(dir.path()).unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join(record::FILE)).unwrap(),
        r#"{"format":1,"name":"x","created":"2026-11-28T10:00:00Z","options":{},"labels":{}}"#
    );
}

fn stored_record(text: &str) -> Option<VolumeRecord> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(record::FILE), text).unwrap();
    VolumeRecord::load(dir.path(), "x").unwrap()
}

/// A file server that answers when it is told to.
#[derive(Debug, Default)]
struct Server {
    /// What was asked, in order.
    asked: Mutex<Vec<String>>,
    /// What is mounted.
    mounted: Mutex<BTreeSet<String>>,
    /// Mounts of volumes of these names hang.
    hangs: Mutex<BTreeSet<String>>,
    changed: std::sync::Condvar,
}

#[derive(Debug)]
struct Remote(Arc<Server>);

impl Server {
    fn let_go(&self, name: &str) {
        self.hangs.lock().unwrap().remove(name);
        self.changed.notify_all();
    }

    fn count(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }
}

impl Mounter for Remote {
    fn mount(&self, name: &str, _: &HashMap<String, String>, _: &Path) -> Result<()> {
        if self.0.mounted.lock().unwrap().contains(name) {
            return Ok(());
        }
        self.0.asked.lock().unwrap().push(format!("mount {name}"));
        let hangs = self.0.hangs.lock().unwrap();
        drop(self.0.changed.wait_while(hangs, |hangs| hangs.contains(name)).unwrap());
        self.0.mounted.lock().unwrap().insert(name.to_owned());
        Ok(())
    }

    fn unmount(&self, data: &Path) -> Result<()> {
        let name = data.parent().unwrap().file_name().unwrap().to_str().unwrap();
        self.0.asked.lock().unwrap().push(format!("unmount {name}"));
        self.0.mounted.lock().unwrap().remove(name);
        Ok(())
    }
}

/// Volumes of such a server.
fn remote() -> (tempfile::TempDir, Arc<Server>, Volumes) {
    let dir = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::default());
    let mounter = Box::new(Remote(server.clone()));
    let volumes = Volumes::open_with(dir.path().join("volumes"), mounter).unwrap();
    (dir, server, volumes)
}

#[test]
fn a_server_that_does_not_answer_holds_up_who_wants_it_and_nobody_else() {
    let (_dir, server, volumes) = remote();
    server.hangs.lock().unwrap().insert("dead".into());
    let volumes = Arc::new(volumes);
    for spec in [nfs("dead"), nfs("good"), plain("own")] {
        volumes.create(spec, Some("c1")).unwrap();
    }
    // Both want the same one; one mount is enough for both.
    let waiting: Vec<_> = ["c1", "c2"]
        .map(|container| {
            let volumes = volumes.clone();
            std::thread::spawn(move || volumes.activate("dead", container, 0).map(drop))
        })
        .into();
    while server.count("mount dead") == 0 {
        std::thread::yield_now();
    }
    // Everybody else, on a thread, so that a failure does not hang.
    let (done, others) = std::sync::mpsc::channel();
    let all = volumes.clone();
    std::thread::spawn(move || {
        all.activate("good", "c1", 0).unwrap();
        all.activate("own", "c1", 0).unwrap();
        all.deactivate("good", "c1", 0);
        all.create(VolumeSpec::default(), None).unwrap();
        assert_eq!(all.all().len(), 4);
        assert!(all.has_mount("dead") && all.get("dead").is_ok());
        assert!(matches!(all.remove("dead"), Err(EngineError::VolumeInUse { .. })));
        all.release("c1");
        all.remove("good").unwrap();
        done.send(()).unwrap();
    });
    let others = others.recv_timeout(std::time::Duration::from_secs(20));
    others.expect("others do not wait for the server");
    server.let_go("dead");
    for thread in waiting {
        thread.join().unwrap().unwrap();
    }
    assert_eq!(server.count("mount dead"), 1);
    volumes.deactivate("dead", "c1", 0);
    assert_eq!(server.count("unmount dead"), 0);
    volumes.deactivate("dead", "c2", 0);
    assert_eq!(server.count("unmount dead"), 1);
    volumes.remove("dead").unwrap();
}

/// After the host has gone down, the records still say that containers run.
#[test]
fn what_the_records_say_is_used_is_mounted_all_the_same() {
    let (_dir, server, volumes) = remote();
    volumes.create(nfs("data"), Some("c1")).unwrap();
    volumes.adopt("data", "c1", true);
    volumes.adopt("data", "c2", true);
    for container in ["c1", "c2"] {
        volumes.activate("data", container, 0).unwrap();
        assert_eq!(server.count("mount data"), 1);
    }
}

/// The unmount after one run may hang until the next has begun.
#[test]
fn the_end_of_a_run_does_not_concern_the_next() {
    let (_dir, server, volumes) = remote();
    volumes.create(nfs("data"), Some("c1")).unwrap();
    volumes.activate("data", "c1", 1).unwrap();
    volumes.activate("data", "c1", 2).unwrap();
    volumes.deactivate("data", "c1", 1);
    assert_eq!(server.count("unmount data"), 0);
    volumes.deactivate("data", "c1", 2);
    assert_eq!(server.count("unmount data"), 1);
}

#[test]
fn what_was_made_for_a_container_is_taken_back_unless_somebody_wants_it() {
    let (dir, volumes) = temp();
    let root = dir.path().join("volumes");
    let make = |name: &str, user: Option<&str>| {
        volumes.create(plain(name), user).unwrap();
    };
    std::fs::create_dir(root.join("folder")).unwrap();
    make("before", None);
    for name in ["before", "folder", "own", "shared", "asked"] {
        make(name, Some("c1"));
    }
    make("shared", Some("c2"));
    make("asked", None);
    volumes.release("c1");
    for (name, gone) in
        [("before", false), ("folder", false), ("own", true), ("shared", false), ("asked", false)]
    {
        assert_eq!(volumes.take_back(name).unwrap(), gone, "{name}");
        assert_eq!(root.join(name).exists(), !gone, "{name}");
    }
    assert!(!volumes.take_back("none").unwrap());
}

/// A container may nest folders deeper than a stack or a descriptor table goes, and a leftover may be in
/// use: EBUSY.
#[test]
fn what_containers_made_is_removed_or_left_but_never_in_the_way() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let (dir, volumes) = temp();
    let spec = plain("deep");
    volumes.create(spec.clone(), None).unwrap();
    let top = volumes.mountpoint("deep");
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(&top, flags, Mode::empty()).unwrap();
    for _ in 0..5_000 {
        mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    drop(at);
    assert_eq!(volumes.size("deep"), 0);
    volumes.remove("deep").unwrap();
    let root = dir.path().join("volumes");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    let grave = root.join(format!("{REMOVED}0"));
    std::fs::create_dir_all(grave.join("_data/busy")).unwrap();
    std::thread::scope(|scope| {
        let start = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
            let none = None::<&str>;
            nix::mount::mount(none, "/", none, flags, none).unwrap();
            let flags = nix::mount::MsFlags::empty();
            let busy = grave.join("_data/busy");
            nix::mount::mount(Some("none"), &busy, Some("tmpfs"), flags, none).unwrap();
            Volumes::open(root.clone()).map(drop)
        });
        start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).unwrap();
    });
    assert!(grave.join("_data/busy").is_dir());
    Volumes::open(root.clone()).unwrap();
    assert!(!grave.exists());
}
