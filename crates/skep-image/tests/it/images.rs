//! Names, look-ups, removal, restarts.

use skep_image::{ErrorKind, ImageId, ImageUser, ListFilter, PruneFilter, RemoveOptions, Removed};

use skep_types::LabelFilter;

use crate::support::{Layer, Store, config, docker_archive, small};

fn nobody(_: &ImageId) -> Vec<ImageUser> {
    Vec::new()
}

fn user(running: bool) -> impl Fn(&ImageId) -> Vec<ImageUser> {
    move |_| {
        vec![ImageUser { container: "0123456789abcdef".into(), reference: "x:1".into(), running }]
    }
}

#[tokio::test]
async fn lookups_and_filters() {
    let store = Store::new();
    let x = store.load(small("x:1", "x")).await.unwrap()[0].id;
    let layer = Layer::new().file("y", b"").done();
    let newer = config(
        std::slice::from_ref(&layer),
        serde_json::json!({"created": "2025-01-01T00:00:00Z", "config": {}}),
    );
    let y = store.load(docker_archive(&["repo/y:2"], &[layer], newer)).await.unwrap()[0].id;
    let images = &store.images;
    for name in [
        "x:1",
        "docker.io/library/x:1",
        &x.to_string(),
        &x.hex(),
        &x.hex()[..6],
        &x.to_string()[..20],
    ] {
        assert_eq!(images.get(name).unwrap().id, x, "{name}");
    }
    for (name, kind, text) in [
        ("x", ErrorKind::NotFound, "No such image: x:latest"),
        ("nope:3", ErrorKind::NotFound, "No such image: nope:3"),
        (
            "X",
            ErrorKind::InvalidParameter,
            "invalid reference format: repository name (library/X) must be lowercase",
        ),
        ("a b", ErrorKind::InvalidParameter, "invalid reference format"),
    ] {
        let error = images.get(name).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }
    let list =
        |filter: ListFilter| images.list(&filter).unwrap().iter().map(|i| i.id).collect::<Vec<_>>();
    assert_eq!(list(ListFilter::default()), [y, x]);
    assert_eq!(
        list(ListFilter { labels: vec![LabelFilter::parse("made=here")], ..Default::default() }),
        [x]
    );
    assert_eq!(
        list(ListFilter { without_labels: vec![LabelFilter::parse("made")], ..Default::default() }),
        [y]
    );
    assert_eq!(list(ListFilter { before: vec!["repo/y:2".into()], ..Default::default() }), [x]);
    assert_eq!(list(ListFilter { since: vec!["x:1".into()], ..Default::default() }), [y]);
    assert_eq!(list(ListFilter { references: vec!["repo/*".into()], ..Default::default() }), [y]);
    assert!(list(ListFilter { dangling: Some(true), ..Default::default() }).is_empty());
    assert!(
        images.list(&ListFilter { references: vec!["[".into()], ..Default::default() }).is_err()
    );
}

#[tokio::test]
async fn tags_survive_restarts() {
    let store = Store::new();
    let id = store.load(small("x:1", "x")).await.unwrap()[0].id;
    assert_eq!(
        store.images.tag("x:1", "localhost:5000/z").await.unwrap(),
        "localhost:5000/z:latest"
    );
    let digest = format!("z@sha256:{}", "0".repeat(64));
    assert_eq!(
        store.images.tag("x:1", &digest).await.unwrap_err().to_string(),
        "refusing to create a tag with a digest reference"
    );
    assert_eq!(store.images.tag("nope", "z").await.unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::create_dir_all(store.root().join("tmp/99/left")).unwrap();
    let [layer, blob] = ["0".repeat(64), "1".repeat(64)];
    std::fs::create_dir_all(store.root().join("layers").join(&layer).join("diff")).unwrap();
    std::fs::write(store.root().join("blobs/sha256").join(&blob), b"half").unwrap();
    for unfinished in [&layer, &blob] {
        std::fs::write(store.root().join("pending").join(unfinished), b"").unwrap();
    }
    let store = store.reopen();
    let image = store.images.get("localhost:5000/z").unwrap();
    assert_eq!(image.id, id);
    assert!(image.last_tagged.is_some());
    assert!(!store.root().join("tmp/99").exists());
    assert!(!store.root().join("layers").join(&layer).exists());
    assert!(!store.root().join("blobs/sha256").join(&blob).exists());
    assert_eq!(std::fs::read_dir(store.root().join("pending")).unwrap().count(), 0);
    let again = skep_image::Images::open(store.root(), Default::default());
    assert!(matches!(again, Err(skep_image::Error::Locked(_))));
}

#[tokio::test]
async fn removal_by_name_and_id() {
    let store = Store::new();
    let id = store.load(small("x:1", "x")).await.unwrap()[0].id;
    store.images.tag("x:1", "x:2").await.unwrap();
    let plain = RemoveOptions::default();
    assert_eq!(
        store.images.remove("x:2", plain, nobody).await.unwrap(),
        [Removed::Untagged("x:2".into())]
    );
    store.images.tag("x:1", "y:1").await.unwrap();
    let error = store.images.remove(&id.to_string(), plain, nobody).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            id.short()
        )
    );
    store.images.remove("y:1", plain, nobody).await.unwrap();

    let error = store.images.remove("x:1", plain, user(false)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to remove repository reference \"x:1\" (must force) - container 0123456789ab is using its referenced image {}",
            id.short()
        )
    );
    let force = RemoveOptions { force: true, ..plain };
    let error = store.images.remove(&id.hex(), force, user(true)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container 0123456789ab",
            id.short()
        )
    );
    assert!(store.images.get("x:1").is_ok());

    let removed = store.images.remove(&id.short(), plain, nobody).await.unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("x:1".into()), Removed::Deleted(id.to_string())]);
    assert_eq!(removed.len(), 3);
    store.assert_empty().await;
    assert_eq!(
        store.images.remove("x:1", plain, nobody).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(store.reopen().images.count(), 0);
}

#[tokio::test]
async fn shared_layers_stay_until_the_last_image_goes() {
    let store = Store::new();
    let base = Layer::new().file("base", b"12345").done();
    for name in ["a", "b"] {
        let layers = vec![base.clone(), Layer::new().file(name, b"1").done()];
        let cfg = config(&layers, serde_json::json!({}));
        store.load(docker_archive(&[&format!("{name}:1")], &layers, cfg)).await.unwrap();
    }
    let usage = store.images.disk_usage();
    assert_eq!(usage.layers, 7);
    assert!(usage.images.iter().all(|i| (i.size, i.shared) == (6, 5)));
    store.images.remove("a:1", RemoveOptions::default(), nobody).await.unwrap();
    assert_eq!(store.images.disk_usage().layers, 6);
    let b = store.images.get("b:1").unwrap();
    assert_eq!(
        std::fs::read(store.images.lowerdirs(&b.id).unwrap()[1].join("base")).unwrap(),
        b"12345"
    );
}

#[tokio::test]
async fn prune_takes_what_nobody_uses() {
    let store = Store::new();
    let old = store.load(small("x:1", "old")).await.unwrap()[0].id;
    store.load(small("x:1", "new!")).await.unwrap();
    let report = store.images.prune(PruneFilter::default(), nobody).await.unwrap();
    assert_eq!(report.removed[0], Removed::Deleted(old.to_string()));
    assert_eq!(report.reclaimed, 3);
    let all = PruneFilter { dangling: false, ..PruneFilter::default() };
    assert!(store.images.prune(all.clone(), user(false)).await.unwrap().removed.is_empty());
    let other = PruneFilter { labels: vec![LabelFilter::parse("made=there")], ..all.clone() };
    assert!(store.images.prune(other, nobody).await.unwrap().removed.is_empty());
    assert_eq!(
        store.images.prune(all, nobody).await.unwrap().removed[0],
        Removed::Untagged("x:1".into())
    );
    store.assert_empty().await;
}
