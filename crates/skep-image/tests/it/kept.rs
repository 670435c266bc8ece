//! What is removed from a store, and when: what was given up, whenever the process ends; and nothing because a
//! note about it is damaged, missing or cannot be written.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use skep_image::{
    ImageId, ImageUser, Images, ListFilter, MountOptions, Progress, PruneFilter, RegistryConfig,
    RemoveOptions,
};
use skep_sys::testing::{SmallDisk, Trouble, in_own_mounts};
use skep_types::LabelFilter;

use crate::support::{Layer, Store, config, docker_archive, read, small};

fn nobody(_: &ImageId) -> Vec<ImageUser> {
    Vec::new()
}

const FORCE: RemoveOptions = RemoveOptions { force: true, keep_parents: false };

/// An image of two layers.
fn tall() -> Vec<u8> {
    let layers =
        [Layer::new().file("low", b"low").done(), Layer::new().file("high", b"high").done()];
    docker_archive(&["tall:1"], &layers, config(&layers, serde_json::json!({})))
}

fn note(root: &Path, id: &ImageId) -> PathBuf {
    root.join("images").join(format!("{}.json", id.hex()))
}

/// All layers and blobs.
fn content(root: &Path) -> Vec<PathBuf> {
    let folders = ["layers", "blobs/sha256"].map(|folder| std::fs::read_dir(root.join(folder)));
    let mut all: Vec<_> = folders
        .into_iter()
        .flat_map(|all| all.unwrap().map(|entry| entry.unwrap().path()))
        .collect();
    all.sort();
    all
}

/// Notes that are damaged on a disk that takes no writes are as good as whole ones, however often a daemon
/// starts and ends meanwhile.
#[test]
fn damaged_notes_on_a_disk_without_room_cost_nothing() {
    let name = "kept::damaged_notes_on_a_disk_without_room_cost_nothing";
    in_own_mounts(name, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for trouble in [Trouble::Full, Trouble::NoInodes, Trouble::ReadOnly] {
            let disk = SmallDisk::mount("size=4m,nr_inodes=256");
            let root = disk.path().join("images");
            let settings = || skep_image::Settings {
                limits: skep_image::Limits { min_free_bytes: 0, ..Default::default() },
                ..RegistryConfig::default().into()
            };
            let open = || Images::open_with(root.clone(), settings()).unwrap();
            let id = runtime.block_on(async {
                let images = open();
                images.load(std::io::Cursor::new(tall()), Progress::none()).await.unwrap()[0].id
            });
            drop(open());
            let before = content(&root);
            std::fs::write(note(&root, &id), "garbage").unwrap();
            let refusing = disk.begin(trouble);
            for start in 0..3 {
                let images = open();
                assert_eq!(images.get("tall:1").unwrap().id, id, "{trouble:?}, start {start}");
                let problems = images.problems().join("\n");
                assert!(problems.contains("what was noted about image tall:1"), "{problems}");
                assert_eq!(content(&root), before, "{trouble:?}, start {start}");
            }
            assert_eq!(read(note(&root, &id)), "garbage");
            drop(refusing);
            // And the names.
            std::fs::write(root.join("names.json"), "garbage").unwrap();
            let refusing = disk.begin(trouble);
            for _ in 0..3 {
                let images = open();
                assert_eq!(images.get(&id.to_string()).unwrap().id, id);
                assert!(images.problems().join("\n").contains("the names of images"));
                let pruned = runtime.block_on(images.prune(PruneFilter::default(), nobody));
                pruned.unwrap_err();
            }
            drop(refusing);
            runtime.block_on(async {
                let images = open();
                images.tag(&id.to_string(), "again:1").await.unwrap();
                assert_eq!(read(root.join("names.json.damaged")), "garbage");
                assert_eq!(read(note(&root, &id).with_extension("json.damaged")), "garbage");
                images.prepare_rw("c1", &id).unwrap();
                images.remove_rw("c1").unwrap();
                images.remove("again:1", FORCE, nobody).await.unwrap();
            });
            assert_eq!(content(&root), Vec::<PathBuf>::new());
        }
    });
}

#[tokio::test]
async fn an_image_without_its_note_is_known_by_its_content() {
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    let other = store.load(small("x:1", "x")).await.unwrap()[0].id;
    let before = content(&store.root());
    std::fs::remove_file(note(&store.root(), &id)).unwrap();
    let store = store.settled().await.reopen();
    assert_eq!(store.images.get("tall:1").unwrap().id, id);
    assert_eq!(content(&store.root()), before);
    assert_eq!(store.images.problems(), Vec::<String>::new());
    store.images.prepare_rw("c1", &id).unwrap();
    store.images.remove_rw("c1").unwrap();
    // It is removed as any other, also when that is cut short.
    store.images.remove("tall:1", FORCE, nobody).await.unwrap();
    store.images.remove("x:1", FORCE, nobody).await.unwrap();
    store.assert_empty().await;
    assert!(store.images.get(&other.to_string()).is_err());
}

#[tokio::test]
async fn what_belongs_to_no_image_stays_until_unused_images_are_pruned() {
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    // An image that shares the lower layer.
    let layers =
        [Layer::new().file("low", b"low").done(), Layer::new().file("else", b"else").done()];
    let sharing = docker_archive(&["else:1"], &layers, config(&layers, serde_json::json!({})));
    store.load(sharing).await.unwrap();
    std::fs::remove_file(note(&store.root(), &id)).unwrap();
    std::fs::remove_file(store.root().join("blobs/sha256").join(id.hex())).unwrap();
    let store = store.settled().await.reopen();
    let told = store.images.problems().join("\n");
    assert!(told.contains("2 layers and files of the image store"), "{told}");
    // What it lies on is kept with it, whoever else goes.
    store.images.remove("else:1", FORCE, nobody).await.unwrap();
    assert_eq!(std::fs::read_dir(store.root().join("layers")).unwrap().count(), 2);
    let store = store.settled().await.reopen();
    // Loading it makes it an image again.
    store.load(tall()).await.unwrap();
    assert_eq!(store.images.problems(), Vec::<String>::new());
    std::fs::remove_file(note(&store.root(), &id)).unwrap();
    std::fs::remove_file(store.root().join("blobs/sha256").join(id.hex())).unwrap();
    let store = store.settled().await.reopen();
    // Also where not even that can be read.
    let layer = std::fs::read_dir(store.root().join("layers")).unwrap().next().unwrap().unwrap();
    std::fs::write(layer.path().join("layer.json"), "garbage").unwrap();
    let store = store.settled().await.reopen();
    assert!(layer.path().exists());
    let labelled =
        PruneFilter { labels: vec![LabelFilter::parse("some=label")], ..PruneFilter::default() };
    store.images.prune(labelled, nobody).await.unwrap();
    assert!(layer.path().exists() && !store.images.problems().is_empty());
    store.images.prune(PruneFilter::default(), nobody).await.unwrap();
    assert_eq!(store.images.problems(), Vec::<String>::new());
    store.assert_empty().await;
}

#[tokio::test]
async fn a_removed_image_that_a_container_uses_goes_with_it() {
    for config_is_whole in [true, false] {
        let store = Store::new();
        let id = store.load(tall()).await.unwrap()[0].id;
        store.images.prepare_rw("c1", &id).unwrap();
        store.images.remove("tall:1", FORCE, nobody).await.unwrap();
        let mut store = store.settled().await.reopen();
        assert!(store.images.list(&ListFilter::default()).unwrap().is_empty());
        assert_eq!(store.images.problems(), Vec::<String>::new());
        drop(store.images.mount("c1", MountOptions::default()).unwrap());
        if !config_is_whole {
            // And back again in between.
            store.load(tall()).await.unwrap();
            store = store.settled().await.reopen();
            store.images.remove("tall:1", FORCE, nobody).await.unwrap();
        }
        store.images.remove_rw("c1").unwrap();
        store.assert_empty().await;
    }
}

/// Whatever has the name of a file, the rest works.
#[tokio::test]
async fn odd_things_among_the_files_stop_nothing() {
    use std::os::unix::fs::symlink;
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    let root = store.root();
    std::fs::create_dir_all(root.join("l/stray/x")).unwrap();
    symlink("nowhere", root.join("blobs/sha256").join("2".repeat(64))).unwrap();
    std::fs::create_dir_all(root.join("blobs/sha256").join("3".repeat(64)).join("x")).unwrap();
    symlink("nowhere", root.join("layers").join("4".repeat(64))).unwrap();
    std::fs::create_dir_all(note(&root, &id).with_extension("removed").join("x")).unwrap();
    // In place of a layer's name: a folder, which would be mounted as if it were the layer.
    let mut link = std::fs::read_dir(root.join("l")).unwrap().map(|entry| entry.unwrap().path());
    let link = link.find(|path| path.is_symlink()).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    for path in [note(&root, &id), root.join("names.json")] {
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("x")).unwrap();
    }
    let store = store.settled().await.reopen();
    assert!(link.is_symlink());
    assert_eq!(store.images.get(&id.to_string()).unwrap().layers.len(), 2);
    store.images.tag(&id.to_string(), "named:1").await.unwrap();
    let store = store.settled().await.reopen();
    assert_eq!(store.images.get("named:1").unwrap().id, id);
    store.images.prepare_rw("c1", &id).unwrap();
    let mounted = store.images.mount("c1", MountOptions::default()).unwrap();
    assert_eq!(read(mounted.path().join("low")), "low");
}

/// A daemon that is killed at any moment leaves nothing that nobody knows of, and nothing that is not whole.
#[test]
fn killed_at_any_moment_it_leaves_nothing_behind() {
    const HERE: &str = "SKEP_TEST_STORE";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Some(root) = std::env::var_os(HERE) {
        runtime.block_on(come_and_go(root.into()));
    }
    let name = "kept::killed_at_any_moment_it_leaves_nothing_behind";
    for round in 0..24_u32 {
        let store = Store::new();
        let Store { images, dir } = store;
        drop(images);
        let root = dir.path().join("images");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(HERE, &root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let steps = lines.map(Result::unwrap).filter(|line| line.contains("step"));
        assert_eq!(steps.take(1 + round as usize % 8).count(), 1 + round as usize % 8);
        // Somewhere in the step that comes next.
        let until =
            std::time::Instant::now() + std::time::Duration::from_micros(u64::from(round) * 397);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let images = Images::open(root.clone(), RegistryConfig::default()).unwrap();
        assert_eq!(images.problems(), Vec::<String>::new(), "round {round}");
        runtime.block_on(async {
            for container in images.rw_layers() {
                images.mount(&container, MountOptions::default()).unwrap();
                images.remove_rw(&container).unwrap();
            }
            for image in images.list(&ListFilter { all: true, ..Default::default() }).unwrap() {
                images.prepare_rw("whole", &image.id).unwrap();
                images.remove_rw("whole").unwrap();
                images.remove(&image.id.to_string(), FORCE, nobody).await.unwrap();
            }
            Store { images, dir }.assert_empty().await;
        });
    }
}

async fn come_and_go(root: PathBuf) {
    let images = Images::open(root, RegistryConfig::default()).unwrap();
    for round in 0.. {
        println!("step load");
        let id = images.load(std::io::Cursor::new(tall()), Progress::none()).await.unwrap()[0].id;
        println!("step run");
        images.prepare_rw(&format!("c{round}"), &id).unwrap();
        println!("step rmi");
        images.remove("tall:1", FORCE, nobody).await.unwrap();
        println!("step rm");
        images.remove_rw(&format!("c{round}")).unwrap();
    }
}
