//! Files of the store that cannot be read take nothing with them.

use std::path::PathBuf;

use skep_image::{
    ErrorKind, ImageId, ImageUser, ListFilter, MountOptions, PruneFilter, RemoveOptions,
};

use crate::support::{Layer, Store, config, docker_archive, read, small};

fn nobody(_: &ImageId) -> Vec<ImageUser> {
    Vec::new()
}

/// An image of two layers.
fn tall() -> Vec<u8> {
    let layers =
        [Layer::new().file("low", b"low").done(), Layer::new().file("high", b"high").done()];
    let config = config(&layers, serde_json::json!({}));
    docker_archive(&["tall:1"], &layers, config)
}

/// The folder of the layer that holds a file.
fn layer_with(store: &Store, file: &str) -> PathBuf {
    let layers = std::fs::read_dir(store.root().join("layers")).unwrap();
    layers
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("diff").join(file).exists())
        .unwrap_or_else(|| panic!("no layer holds {file}"))
}

const NEWER: &str = r#"{"format":2,"of":["another","shape"]}"#;

#[tokio::test]
async fn a_damaged_layer_stays_and_is_repaired_by_loading() {
    for (damaged, content) in [("high", ""), ("low", "{\"diff"), ("low", NEWER)] {
        let store = Store::new();
        let id = store.load(tall()).await.unwrap()[0].id;
        store.images.prepare_rw("c1", &id).unwrap();
        let (low, high) = (layer_with(&store, "low"), layer_with(&store, "high"));
        std::fs::write(layer_with(&store, damaged).join("layer.json"), content).unwrap();
        let store = store.settled().await.reopen();
        let whole = || {
            assert_eq!(
                (read(low.join("diff/low")), read(high.join("diff/high"))),
                ("low".into(), "high".into())
            )
        };
        whole();
        // It is shown with its name, and refused.
        assert_eq!(store.images.get("tall:1").unwrap().id, id);
        let refused = store.images.prepare_rw("c2", &id).unwrap_err();
        assert!(matches!(refused, skep_image::Error::DamagedImage { .. }), "{refused}");
        let problems = store.images.problems().join("\n");
        assert!(problems.contains("tall:1 is damaged: layer sha256:"), "{problems}");
        // Nor is a container mounted on what is left below it.
        let refused = store.images.mount("c1", MountOptions::default()).unwrap_err();
        assert!(refused.to_string().contains("is damaged"), "{refused}");
        // Other operations sweep nothing of it away.
        store.load(small("x:1", "x")).await.unwrap();
        store.images.remove("x:1", RemoveOptions::default(), nobody).await.unwrap();
        let all = PruneFilter { dangling: false, ..PruneFilter::default() };
        store.images.prune(all, nobody).await.unwrap();
        let store = store.settled().await.reopen();
        whole();
        store.load(tall()).await.unwrap();
        assert_eq!(store.images.problems(), Vec::<String>::new());
        let store = store.settled().await.reopen();
        whole();
        assert_eq!(store.images.rw("c1").unwrap().lowerdirs, [high.join("diff"), low.join("diff")]);
        store.images.prepare_rw("c2", &id).unwrap();
        for container in ["c1", "c2"] {
            store.images.remove_rw(container).unwrap();
        }
        store.images.remove("tall:1", RemoveOptions::default(), nobody).await.unwrap();
        store.assert_empty().await;
    }
}

#[tokio::test]
async fn a_container_keeps_what_lies_below_a_damaged_layer_of_no_image() {
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    store.images.prepare_rw("c1", &id).unwrap();
    store
        .images
        .remove("tall:1", RemoveOptions { force: true, ..Default::default() }, nobody)
        .await
        .unwrap();
    let (low, high) = (layer_with(&store, "low"), layer_with(&store, "high"));
    let file = high.join("layer.json");
    let noted = std::fs::read(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    let store = store.settled().await.reopen();
    assert!(low.join("diff/low").exists() && high.join("diff/high").exists());
    assert!(store.images.check_rw("c1").is_err());
    // Repaired, it is read again at once.
    std::fs::write(&file, noted).unwrap();
    store.images.check_rw("c1").unwrap();
    assert_eq!(store.images.problems(), Vec::<String>::new());
    assert_eq!(store.images.rw("c1").unwrap().lowerdirs, [high.join("diff"), low.join("diff")]);
    // Once nobody needs it, a damaged one goes like any other.
    std::fs::write(&file, "").unwrap();
    let store = store.settled().await.reopen();
    store.images.remove_rw("c1").unwrap();
    store.assert_empty().await;
}

#[tokio::test]
async fn an_image_with_a_damaged_configuration_stays() {
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    let blob = store.root().join("blobs/sha256").join(id.hex());
    let whole = std::fs::read(&blob).unwrap();
    let before = store.images.get("tall:1").unwrap();
    std::fs::write(&blob, "").unwrap();
    let store = store.settled().await.reopen();
    let damaged = store.images.get("tall:1").unwrap();
    assert_eq!(damaged.id, id);
    // How old it is nobody knows, but how long it is here.
    let age = time::OffsetDateTime::now_utc() - damaged.created.unwrap();
    assert!(age < time::Duration::hours(1), "{age}");
    assert!(layer_with(&store, "low").exists());
    assert!(store.images.prepare_rw("c1", &id).is_err());
    // Repaired, it is read again at once.
    std::fs::write(&blob, whole).unwrap();
    let repaired = store.images.get("tall:1").unwrap();
    assert_eq!((repaired.created, repaired.layers), (before.created, before.layers));
    std::fs::write(&blob, "").unwrap();
    let store = store.settled().await.reopen();
    store.load(tall()).await.unwrap();
    store.images.prepare_rw("c1", &id).unwrap();
    store.images.remove_rw("c1").unwrap();
    // Or it is removed, if that is what the user says.
    std::fs::write(&blob, "").unwrap();
    let store = store.settled().await.reopen();
    store
        .images
        .remove(&id.to_string(), RemoveOptions { force: true, ..Default::default() }, nobody)
        .await
        .unwrap();
    // What it consisted of is not known any more, so that goes when somebody says so.
    assert!(layer_with(&store, "low").exists());
    assert!(store.images.problems()[0].contains("belong to no image that is known"));
    store.images.prune(PruneFilter::default(), nobody).await.unwrap();
    assert_eq!(store.images.problems(), Vec::<String>::new());
    store.assert_empty().await;
}

#[tokio::test]
async fn images_whose_names_are_lost_are_known_by_their_ids() {
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    let record = store.root().join("images").join(format!("{}.json", id.hex()));
    std::fs::write(&record, "").unwrap();
    std::fs::write(store.root().join("names.json"), "{\"docker").unwrap();
    let store = store.settled().await.reopen();
    let images = store.images.list(&ListFilter::default()).unwrap();
    assert_eq!((images[0].id, images[0].repo_tags.len()), (id, 0));
    let aside = store.root().join("names.json.damaged");
    assert_eq!(read(&aside), "{\"docker");
    // Without names nobody knows which images are wanted.
    let dangling = PruneFilter { dangling: true, ..PruneFilter::default() };
    let refused = store.images.prune(dangling.clone(), nobody).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    store.images.tag(&id.to_string(), "named:1").await.unwrap();
    let store = store.settled().await.reopen();
    assert_eq!(store.images.get("named:1").unwrap().id, id);
    assert!(store.images.problems()[0].contains("names.json.damaged"));
    assert!(store.images.prune(dangling.clone(), nobody).await.is_err());
    std::fs::remove_file(aside).unwrap();
    store.images.prune(dangling, nobody).await.unwrap();
    assert!(store.images.problems().is_empty());
}

#[tokio::test]
async fn a_root_file_system_of_which_the_image_is_not_known_stays() {
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    let rw = store.images.prepare_rw("c1", &id).unwrap();
    std::fs::write(rw.upper.join("row"), "row").unwrap();
    let parent = rw.upper.with_file_name("parent");
    let target = std::fs::read_link(&parent).unwrap();
    std::fs::remove_file(&parent).unwrap();
    let store = store.settled().await.reopen();
    let error = store.images.check_rw("c1").unwrap_err().to_string();
    assert!(error.contains(parent.to_str().unwrap()), "{error}");
    // Repaired, it is read again at once.
    std::os::unix::fs::symlink(target, &parent).unwrap();
    assert_eq!(store.images.rw("c1").unwrap(), rw);
    std::fs::remove_file(&parent).unwrap();
    let store = store.settled().await.reopen();
    assert_eq!(read(rw.upper.join("row")), "row");
    assert_eq!(store.images.rw_layers(), ["c1"]);
    assert!(store.images.problems()[0].contains("c1"));
    store.images.remove_rw("c1").unwrap();
    assert!(!rw.upper.exists());
}

/// State files as they were before they had a format number, and as they are.
#[tokio::test]
async fn state_files_of_before_are_read() {
    let store = Store::new();
    let id = store.load(tall()).await.unwrap()[0].id;
    let mut files = vec![
        store.root().join("names.json"),
        store.root().join("images").join(format!("{}.json", id.hex())),
    ];
    files.extend(["low", "high"].map(|file| layer_with(&store, file).join("layer.json")));
    for file in files {
        let mut value: serde_json::Value = serde_json::from_str(&read(&file)).unwrap();
        assert_eq!(value["format"], 1, "{}", file.display());
        value.as_object_mut().unwrap().remove("format");
        if let Some(names) = value.get("names") {
            value = names.clone();
        }
        std::fs::write(&file, value.to_string()).unwrap();
    }
    let store = store.settled().await.reopen();
    assert_eq!(store.images.get("tall:1").unwrap().id, id);
    assert_eq!(store.images.problems(), Vec::<String>::new());
    store.images.prepare_rw("c1", &id).unwrap();
}
