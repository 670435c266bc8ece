//! load, save, import.

use std::io::Cursor;

use skep_image::{
    Digest, Error, ErrorKind, Images, ImportOptions, Limits, Progress, Reference, RegistryConfig,
    Settings,
};

use crate::support::{
    Layer, Store, archive, bzip2, collect, config, docker_archive, gzip, huge_xz, members, small,
    xz, zstd,
};

fn two_layers() -> (Vec<Vec<u8>>, Vec<u8>) {
    let layers = vec![
        Layer::new().dir("a/").file("a/one", b"1").file("a/two", b"2").done(),
        Layer::new().file("a/.wh.one", b"").file("a/three", b"3").done(),
    ];
    let config = config(&layers, serde_json::json!({}));
    (layers, config)
}

#[tokio::test]
async fn docker_archives_in_every_compression() {
    let (layers, config) = two_layers();
    let id = Digest::of(&config).to_string();
    let packed = vec![gzip(&layers[0]), zstd(&layers[1])];
    let foreign = vec![bzip2(&layers[0]), xz(&layers[1])];
    for inner in [&layers, &packed, &foreign] {
        let plain = docker_archive(&["x:1", "localhost:5000/y:2"], inner, config.clone());
        let doubled = [bzip2(&plain[..1024]), bzip2(&plain[1024..])].concat();
        let all = [plain.clone(), gzip(&plain), zstd(&plain), bzip2(&plain), xz(&plain)];
        for outer in all.into_iter().chain([doubled]) {
            let store = Store::new();
            let loaded = store.load(outer).await.unwrap();
            assert_eq!(loaded.len(), 1);
            assert_eq!(loaded[0].id.to_string(), id);
            assert_eq!(loaded[0].references, ["x:1", "localhost:5000/y:2"]);
            let image = store.images.get("x:1").unwrap();
            assert_eq!(image.repo_tags, ["localhost:5000/y:2", "x:1"]);
            assert_eq!(image.size, 3);
            assert_eq!(image.config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        }
    }
}

#[tokio::test]
async fn old_archives_with_links_between_layers() {
    let layer = Layer::new().file("f", b"x").done();
    let config = config(&[layer.clone(), layer.clone()], serde_json::json!({}));
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let archive = Layer::new()
        .dir("a/")
        .file("a/VERSION", b"1.0")
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("a/layer.tar", &layer)
        .file("c.json", &config)
        .file("manifest.json", &serde_json::to_vec(&manifest).unwrap())
        .file("repositories", b"{}")
        .done();
    let store = Store::new();
    let loaded = store.load(archive).await.unwrap();
    assert!(loaded[0].references.is_empty());
    assert!(store.images.get(&loaded[0].id.to_string()).unwrap().is_dangling());
}

#[tokio::test]
async fn oci_layouts() {
    let (layers, config) = two_layers();
    let packed = [gzip(&layers[0]), zstd(&layers[1])];
    let blob = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar+gzip", &packed[0]), blob("application/vnd.oci.image.layer.v1.tar+zstd", &packed[1])],
    })).unwrap();
    let mut here = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    here["platform"] = serde_json::json!({"os": "linux", "architecture": skep_image::Platform::host().architecture});
    let mut elsewhere = blob("application/vnd.oci.image.manifest.v1+json", b"not in the archive");
    elsewhere["platform"] = serde_json::json!({"os": "plan9", "architecture": "mips"});
    let inner = serde_json::to_vec(
        &serde_json::json!({"schemaVersion": 2, "manifests": [elsewhere, here]}),
    )
    .unwrap();
    let mut entry = blob("application/vnd.oci.image.index.v1+json", &inner);
    entry["annotations"] =
        serde_json::json!({"io.containerd.image.name": "docker.io/library/multi:1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
    ];
    for bytes in [&inner, &manifest, &config, &packed[0], &packed[1]] {
        files.push((format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.clone()));
    }
    let store = Store::new();
    let loaded = store.load(archive(&files)).await.unwrap();
    assert_eq!(loaded[0].references, ["multi:1"]);
    // The same manifest comes out again.
    let saved = members(&collect(store.images.save(&["multi:1".into()]).unwrap()).await.unwrap());
    assert_eq!(saved[&format!("blobs/sha256/{}", Digest::of(&manifest).hex())], manifest);

    // A wrong byte in a blob.
    let last = files.len() - 1;
    files[last].1[20] ^= 1;
    let other = Store::new();
    let error = other.load(archive(&files)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert!(error.report().contains("digest"), "{}", error.report());
    other.assert_empty().await;
}

#[tokio::test]
async fn what_is_saved_loads_elsewhere_unchanged() {
    let (layers, config) = two_layers();
    let store = Store::new();
    store
        .load(docker_archive(&["x:1", "x:2"], &[gzip(&layers[0]), layers[1].clone()], config))
        .await
        .unwrap();
    store.load(small("y:latest", "y")).await.unwrap();
    let first =
        collect(store.images.save(&["x".into(), "y:latest".into()]).unwrap()).await.unwrap();
    let again = collect(store.images.save(&["x:1".into(), "y".into(), "x:2".into()]).unwrap())
        .await
        .unwrap();
    let names = members(&first);
    for name in ["index.json", "manifest.json", "oci-layout", "repositories"] {
        assert!(names.contains_key(name), "{name}");
    }
    assert_eq!(members(&again)["index.json"], names["index.json"]);
    let other = Store::new();
    let loaded = other.load(first).await.unwrap();
    assert_eq!(loaded.len(), 2);
    for name in ["x:1", "x:2", "y"] {
        assert_eq!(other.images.get(name).unwrap().id, store.images.get(name).unwrap().id);
    }
    let third = collect(other.images.save(&["x:1".into(), "x:2".into(), "y".into()]).unwrap())
        .await
        .unwrap();
    assert_eq!(members(&third), members(&again));
    assert_eq!(
        store.images.save(&["nope".into()]).unwrap_err().to_string(),
        "No such image: nope:latest"
    );
}

#[tokio::test]
async fn broken_archives_leave_nothing() {
    let (layers, good) = two_layers();
    let whole = docker_archive(&["x:1"], &layers, good.clone());
    let swapped = docker_archive(&["x:1"], &[layers[1].clone(), layers[0].clone()], good.clone());
    let missing = docker_archive(&["x:1"], &layers[..1], good.clone());
    let bad_tag = docker_archive(&["X:1"], &layers, good.clone());
    let manifest = |text: &str| archive(&[("manifest.json".into(), text.as_bytes().to_vec())]);
    let mut truncated_gzip = gzip(&whole);
    truncated_gzip.truncate(truncated_gzip.len() - 10);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "unrecognized image format"),
        ("noise", vec![7; 4096], "wrong header checksum"),
        ("no manifest", archive(&[("a".into(), vec![1])]), "unrecognized image format"),
        ("pre-1.10", archive(&[("repositories".into(), b"{}".to_vec())]), "before 1.10"),
        ("truncated", whole[..700].to_vec(), "the tar stream ends"),
        ("truncated gzip", truncated_gzip, "cannot read the image archive"),
        ("bad json", manifest("["), "manifest.json is malformed"),
        ("wrong types", manifest("[{\"Config\": 3}]"), "manifest.json is malformed"),
        ("missing config", manifest("[{\"Config\": \"c\", \"Layers\": []}]"), "it is missing"),
        (
            "config outside",
            manifest("[{\"Config\": \"../../etc/passwd\", \"Layers\": []}]"),
            "outside of the archive",
        ),
        ("layers swapped", swapped, "has the digest"),
        ("a layer too few", missing, "2 diff ids for 1 layers"),
        ("bad tag", bad_tag, "must be lowercase"),
        ("lz4", vec![0x04, 0x22, 0x4d, 0x18, 0], "unsupported compression: lz4"),
        ("truncated bzip2", bzip2(&whole)[..300].to_vec(), "cannot read the image archive"),
        ("truncated xz", xz(&whole)[..300].to_vec(), "cannot read the image archive"),
        ("bad bzip2", b"BZh91AY&SY".to_vec(), "cannot read the image archive"),
        ("huge window", huge_xz(&whole), "needed memory too big"),
        ("name outside", Layer::new().file("../x", b"").done(), "outside of the archive"),
        (
            "device",
            Layer::new().entry("d", Layer::header(tar::EntryType::Block, 0o600)).done(),
            "neither a file",
        ),
        (
            "link loop",
            Layer::new().symlink("manifest.json", "manifest.json").done(),
            "too many links",
        ),
    ];
    let store = Store::new();
    for (what, bytes, text) in cases {
        let error = store.load(bytes).await.unwrap_err();
        assert!(error.report().contains(text), "{what}: {}", error.report());
        assert_ne!(error.kind(), ErrorKind::System, "{what}");
        store.assert_empty().await;
    }
    store.load(whole).await.unwrap();
}

#[tokio::test]
async fn bombs_stop_at_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        Limits { layer_bytes: 1 << 20, entries: 100, archive_bytes: 8 << 20, ..Limits::default() };
    let settings = Settings { limits, ..RegistryConfig::default().into() };
    let images = Images::open_with(dir.path().join("i"), settings).unwrap();
    let load = async |archive: Vec<u8>| {
        images.load(Cursor::new(archive), Progress::none()).await.unwrap_err().report()
    };

    let zeros = Layer::new().file("z", &vec![0; 4 << 20]).done();
    let cfg = config(std::slice::from_ref(&zeros), serde_json::json!({}));
    let text = load(docker_archive(&["x:1"], &[gzip(&zeros)], cfg)).await;
    assert!(text.contains("more than the configured limit"), "{text}");

    let outer = Layer::new().file("z", &vec![0; 16 << 20]).done();
    for outer in [gzip(&outer), bzip2(&outer), xz(&outer)] {
        assert!(load(outer).await.contains("more than the configured limit"));
    }
    for inner in [bzip2(&zeros), xz(&zeros)] {
        let cfg = config(std::slice::from_ref(&zeros), serde_json::json!({}));
        let archive = Cursor::new(docker_archive(&["x:1"], &[inner], cfg));
        let error = images.load(archive, Progress::none()).await.unwrap_err();
        let text = error.report();
        assert!(text.contains("more than the configured limit"), "{text}");
        // Before it is stored plain, and not only when that is unpacked.
        assert!(!matches!(error, Error::Unpack { .. }), "{text}");
    }

    let many = (0..200).fold(Layer::new(), |layer, n| layer.file(&format!("f{n}"), b"")).done();
    let cfg = config(std::slice::from_ref(&many), serde_json::json!({}));
    let text = load(docker_archive(&["x:1"], std::slice::from_ref(&many), cfg)).await;
    assert!(text.contains("more than 100 entries"), "{text}");
    assert!(load(many).await.contains("the number of entries: 100"));
    assert_eq!(images.count(), 0);
}

#[tokio::test]
async fn import_with_changes() {
    let store = Store::new();
    let rootfs = Layer::new().dir("bin/").file("bin/x", b"x").done();
    let options = ImportOptions {
        reference: Some(Reference::parse("mine").unwrap()),
        changes: vec!["CMD [\"/bin/x\"]".into(), "ENV A=1".into(), "EXPOSE 80".into()],
        message: Some("from a test".into()),
        platform: None,
    };
    let id = store
        .images
        .import(Cursor::new(xz(&rootfs)), options.clone(), Progress::none())
        .await
        .unwrap();
    let image = store.images.get("mine:latest").unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.config.config.cmd, Some(vec!["/bin/x".into()]));
    assert_eq!(image.config.config.exposed_ports, ["80/tcp"]);
    assert_eq!(image.config.rootfs.diff_ids[0].0, Digest::of(&rootfs));
    let history = store.images.history("mine").unwrap();
    assert_eq!((history[0].comment.as_str(), history[0].size), ("from a test", 1));

    let bad = ImportOptions { changes: vec!["RUN x".into()], ..options.clone() };
    let error = store.images.import(Cursor::new(rootfs), bad, Progress::none()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::InvalidParameter, "RUN is not a valid change command")
    );
    let error = store
        .images
        .import(Cursor::new(b"no tar".to_vec()), options, Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unpack { .. }), "{error}");
    assert_eq!(store.images.get("mine").unwrap().id, id);
}

#[tokio::test]
async fn a_loaded_name_moves_from_the_image_that_had_it() {
    let store = Store::new();
    let old = store.load(small("x:1", "old")).await.unwrap()[0].id;
    let loaded = store.load(small("x:1", "new")).await.unwrap();
    assert_eq!(loaded[0].replaced, [("x:1".to_owned(), old)]);
    assert!(store.images.get(&old.to_string()).unwrap().is_dangling());
}
