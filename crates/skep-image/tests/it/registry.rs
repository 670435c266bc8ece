//! Pull and push, against Debian's docker-registry and against a server with faults.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::Engine as _;
use skep_image::{
    Credentials, Digest, Error, ErrorKind, Images, Platform, Progress, Reference, RegistryConfig,
    Retry, Settings, media_type,
};

use crate::{
    server::{Reply, Seen, Server},
    support::{Layer, Store, collect, config, docker_archive, gzip, members, zstd},
};

/// The real thing, killed when the test ends.
struct RealRegistry {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RealRegistry {
    async fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {0}/data\nhttp:\n  addr: {address}\n{1}",
            dir.path().display(),
            more.replace("DIR", dir.path().to_str().unwrap()),
        );
        std::fs::write(dir.path().join("config.yml"), text).unwrap();
        if more.contains("htpasswd") {
            // "secret" for user "me", bcrypt.
            let hash = "me:$2y$05$bQTFcYFrsFBOQOxI81cO8ebyqwe9q7OKfru6Ly.rwJdJbH.6l6H2W\n";
            std::fs::write(dir.path().join("htpasswd"), hash).unwrap();
        }
        let child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, address, _dir: dir };
        for _ in 0..500 {
            if TcpStream::connect(&registry.address).is_ok() {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("docker-registry does not listen on {}", registry.address);
    }

    fn name(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address)).unwrap()
    }
}

fn image() -> (Vec<Vec<u8>>, Vec<u8>) {
    let layers = vec![
        Layer::new().dir("a/").file("a/one", &vec![1; 300_000]).done(),
        Layer::new().file("a/two", b"2").done(),
        Layer::new().file("a/.wh.one", b"").done(),
    ];
    let config = config(&layers, serde_json::json!({}));
    (layers, config)
}

#[tokio::test]
async fn push_and_pull_round_trip() {
    let registry = RealRegistry::start("").await;
    let (layers, config) = image();
    let packed = vec![gzip(&layers[0]), zstd(&layers[1]), layers[2].clone()];
    let here = Store::new();
    let name = registry.name("some/app:1");
    let id = here.load(docker_archive(&[&name.to_string()], &packed, config)).await.unwrap()[0].id;
    let (progress, mut events) = Progress::channel();
    let pushed = here.images.push(&name, &Credentials::Anonymous, progress).await.unwrap();
    let mut lines = Vec::new();
    while let Some(event) = events.recv().await {
        lines.push(event.status.into_owned());
    }
    assert!(
        lines.iter().any(|line| line == "Pushed")
            && lines[0].contains("The push refers to repository"),
        "{lines:?}"
    );
    let image = here.images.get(&name.to_string()).unwrap();
    assert_eq!(image.repo_digests, [format!("{}/some/app@{}", registry.address, pushed.digest)]);

    // Again: nothing is sent. Elsewhere in the registry: mounted.
    let (progress, mut events) = Progress::channel();
    here.images.push(&name, &Credentials::Anonymous, progress).await.unwrap();
    let mut lines = Vec::new();
    while let Some(event) = events.recv().await {
        lines.push(event.status.into_owned());
    }
    assert_eq!(lines.iter().filter(|line| *line == "Layer already exists").count(), 3);
    let other = registry.name("other:2");
    here.images.tag(&name.to_string(), &other.to_string()).await.unwrap();
    let (progress, mut events) = Progress::channel();
    here.images.push(&other, &Credentials::Anonymous, progress).await.unwrap();
    let mut mounted = 0;
    while let Some(event) = events.recv().await {
        mounted += usize::from(event.status == "Mounted from some/app");
    }
    // The third was compressed for the way and is known under another digest.
    assert_eq!(mounted, 2);

    // Two at once, and once more.
    let there = Store::new();
    let (progress, mut events) = Progress::channel();
    let (one, two) = tokio::join!(
        there.images.pull(&name, None, &Credentials::Anonymous, progress),
        there.images.pull(&other, None, &Credentials::Anonymous, Progress::none()),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.id, two.id), (id, id));
    assert!(one.changed);
    let mut lines = Vec::new();
    while let Some(event) = events.recv().await {
        lines.push(event.status.into_owned());
    }
    assert_eq!(lines[0], "Pulling from some/app");
    assert_eq!(
        lines[lines.len() - 1],
        format!("Status: Downloaded newer image for {}", name.familiar())
    );
    assert_eq!(lines[lines.len() - 2], format!("Digest: {}", pushed.digest));
    // The other pull may have been faster with some.
    let stored = |line: &&String| matches!(line.as_str(), "Pull complete" | "Already exists");
    assert_eq!(lines.iter().filter(stored).count(), 3, "{lines:?}");
    let again =
        there.images.pull(&name, None, &Credentials::Anonymous, Progress::none()).await.unwrap();
    assert!(!again.changed);
    assert_eq!(again.digest.to_string(), pushed.digest);

    // By digest; and what was pulled keeps its digest when it is pushed on.
    let by_digest = registry.name(&format!("some/app@{}", pushed.digest));
    assert_eq!(
        there
            .images
            .pull(&by_digest, None, &Credentials::Anonymous, Progress::none())
            .await
            .unwrap()
            .id,
        id
    );
    let onward = registry.name("onward:1");
    there.images.tag(&name.to_string(), &onward.to_string()).await.unwrap();
    let onward =
        there.images.push(&onward, &Credentials::Anonymous, Progress::none()).await.unwrap();
    assert_eq!(onward.digest, pushed.digest);
    let saved = members(&collect(there.images.save(&[name.to_string()]).unwrap()).await.unwrap());
    assert!(saved.contains_key(&format!("blobs/sha256/{}", &pushed.digest[7..])));

    let about = there.images.distribution(&name, &Credentials::Anonymous).await.unwrap();
    assert_eq!(about.digest.to_string(), pushed.digest);
    assert_eq!(about.platforms, [Platform::parse("linux/amd64").unwrap()]);
    assert_eq!(there.images.remote_tags(&name, &Credentials::Anonymous).await.unwrap(), ["1"]);

    let missing = registry.name("some/app:nope");
    let error = there
        .images
        .pull(&missing, None, &Credentials::Anonymous, Progress::none())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        format!(
            "manifest for {} not found: manifest unknown: manifest unknown",
            missing.familiar()
        )
    );
    let error =
        there.images.push(&missing, &Credentials::Anonymous, Progress::none()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("An image does not exist locally with the tag: {}", missing.familiar())
    );
}

#[tokio::test]
async fn a_real_registry_with_passwords() {
    let registry =
        RealRegistry::start("auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n").await;
    let (layers, config) = image();
    let store = Store::new();
    let name = registry.name("private:1");
    store.load(docker_archive(&[&name.to_string()], &layers, config)).await.unwrap();
    let error =
        store.images.push(&name, &Credentials::Anonymous, Progress::none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{}", error.report());
    let wrong = Credentials::Password { username: "me".into(), password: "wrong".into() };
    let error = store.images.login(&registry.address, &wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{}", error.report());
    let error = store.images.pull(&name, None, &wrong, Progress::none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    assert!(error.to_string().starts_with("pull access denied for "), "{error}");
    let right = Credentials::Password { username: "me".into(), password: "secret".into() };
    assert_eq!(store.images.login(&registry.address, &right).await.unwrap(), None);
    store.images.push(&name, &right, Progress::none()).await.unwrap();
    Store::new().images.pull(&name, None, &right, Progress::none()).await.unwrap();
}

/// An image behind the server with faults.
#[derive(Clone)]
struct Served {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

impl Served {
    fn new() -> Self {
        let plain = Layer::new()
            .file(
                "f",
                &(0..500_000_u64)
                    .map(|n| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 13) as u8)
                    .collect::<Vec<_>>(),
            )
            .done();
        let config = config(std::slice::from_ref(&plain), serde_json::json!({}));
        let layer = gzip(&plain);
        let entry = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST,
            "config": entry(media_type::DOCKER_CONFIG, &config),
            "layers": [entry(media_type::DOCKER_LAYER_GZIP, &layer)],
        }))
        .unwrap();
        let mut here = entry(media_type::DOCKER_MANIFEST, &manifest);
        here["platform"] =
            serde_json::json!({"os": "linux", "architecture": Platform::host().architecture});
        let mut other = entry(media_type::DOCKER_MANIFEST, b"other");
        other["platform"] = serde_json::json!({"os": "linux", "architecture": "s390x"});
        let index = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::DOCKER_LIST, "manifests": [other, here],
        }))
        .unwrap();
        Self { layer, config, manifest, index }
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.line.split(' ').nth(1).unwrap();
        let blob = |bytes: &[u8]| path.ends_with(&Digest::of(bytes).to_string());
        if path == "/v2/" {
            Reply::ok("{}")
        } else if path.ends_with("/manifests/latest") || blob(&self.index) {
            Reply::ok(self.index.clone()).with("Content-Type", media_type::DOCKER_LIST)
        } else if blob(&self.manifest) {
            Reply::ok(self.manifest.clone()).with("Content-Type", media_type::DOCKER_MANIFEST)
        } else if blob(&self.config) {
            Reply::ok(self.config.clone())
        } else if blob(&self.layer) {
            match seen
                .headers
                .get("range")
                .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
            {
                Some(from) => Reply { status: 206, ..Reply::ok(&self.layer[from..]) }.with(
                    "Content-Range",
                    format!("bytes {from}-{}/{}", self.layer.len() - 1, self.layer.len()),
                ),
                None => Reply::ok(self.layer.clone()),
            }
        } else {
            Reply {
                status: 404,
                ..Reply::ok(r#"{"errors":[{"code":"NOT_FOUND","message":"not here"}]}"#)
            }
        }
    }
}

fn quick(config: RegistryConfig) -> (Images, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let retry = Retry {
        first_pause: Duration::from_millis(1),
        idle: Duration::from_secs(5),
        ..Retry::default()
    };
    let settings = Settings { retry, ..config.into() };
    (Images::open_with(dir.path().join("images"), settings).unwrap(), dir)
}

async fn pull(
    images: &Images,
    server: &Server,
    who: &Credentials,
) -> Result<skep_image::Pulled, Error> {
    let name = Reference::parse(&format!("{}/app", server.address)).unwrap();
    images.pull(&name, None, who, Progress::none()).await
}

#[tokio::test]
async fn broken_connections_resume() {
    let served = Served::new();
    let cuts = AtomicUsize::new(0);
    let blob = Digest::of(&served.layer).to_string();
    let server = Server::start(move |seen| {
        let mut reply = served.answer(seen);
        if seen.line.contains(&blob) && cuts.fetch_add(1, Ordering::SeqCst) < 8 {
            reply.cut = Some((reply.body.len() / 10).max(1));
        }
        reply
    });
    let (images, _dir) = quick(RegistryConfig::default());
    pull(&images, &server, &Credentials::Anonymous).await.unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(seen.iter().filter(|seen| seen.headers.contains_key("range")).count() >= 5);
}

#[tokio::test]
async fn lies_are_found() {
    type Twist = fn(&Served, &Seen, Reply) -> Reply;
    let cases: Vec<(&str, Twist, &str, ErrorKind)> = vec![
        (
            "no registry",
            |_, seen, reply| if seen.line.contains("/v2/ ") { Reply::status(404) } else { reply },
            "no registry with API version 2",
            ErrorKind::System,
        ),
        (
            "layer changed",
            |s, seen, mut r| {
                if seen.line.contains(&Digest::of(&s.layer).to_string()) {
                    r.body[100] ^= 1;
                }
                r
            },
            "filesystem layer verification failed",
            ErrorKind::System,
        ),
        (
            "layer too long",
            |s, seen, mut r| {
                if seen.line.contains(&Digest::of(&s.layer).to_string()) {
                    r.body.push(0);
                }
                r
            },
            "instead of",
            ErrorKind::System,
        ),
        (
            "layer always cut",
            |s, seen, mut r| {
                if seen.line.contains(&Digest::of(&s.layer).to_string()) {
                    r.cut = Some(0);
                }
                r
            },
            "broke off",
            ErrorKind::Unavailable,
        ),
        (
            "layer missing",
            |s, seen, r| {
                if seen.line.contains(&Digest::of(&s.layer).to_string()) {
                    Reply::status(404)
                } else {
                    r
                }
            },
            "answered 404",
            ErrorKind::System,
        ),
        (
            "config changed",
            |s, seen, mut r| {
                if seen.line.contains(&Digest::of(&s.config).to_string()) {
                    r.body[3] ^= 1;
                }
                r
            },
            "verification failed",
            ErrorKind::System,
        ),
        (
            "manifest changed",
            |s, seen, mut r| {
                if seen.line.contains(&Digest::of(&s.manifest).to_string()) {
                    r.body.push(b' ');
                }
                r
            },
            "verification failed",
            ErrorKind::System,
        ),
        (
            "huge manifest",
            |_, seen, mut r| {
                if seen.line.contains("/manifests/") {
                    r.body = vec![b' '; 5 << 20];
                }
                r
            },
            "larger than the limit",
            ErrorKind::System,
        ),
        (
            "manifest is html",
            |_, seen, r| if seen.line.contains("/manifests/") { Reply::ok("<html>") } else { r },
            "malformed",
            ErrorKind::System,
        ),
        (
            "schema 1",
            |_, seen, r| {
                if seen.line.contains("/manifests/") {
                    Reply::ok(r#"{"schemaVersion":1,"fsLayers":[]}"#)
                } else {
                    r
                }
            },
            "schema 1 are not supported",
            ErrorKind::System,
        ),
        (
            "both",
            |_, seen, r| {
                if seen.line.contains("/manifests/") {
                    Reply::ok(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#)
                } else {
                    r
                }
            },
            "both layers and manifests",
            ErrorKind::System,
        ),
        (
            "other platforms only",
            |_, seen, r| {
                if seen.line.contains("/manifests/") {
                    Reply::ok(r#"{"schemaVersion":2,"manifests":[]}"#)
                } else {
                    r
                }
            },
            "no matching manifest for linux/",
            ErrorKind::NotFound,
        ),
        (
            "redirect loop",
            |_, seen, r| {
                if seen.line.contains("/blobs/") {
                    Reply::status(307).with("Location", seen.line.split(' ').nth(1).unwrap())
                } else {
                    r
                }
            },
            "in circles",
            ErrorKind::System,
        ),
        (
            "overloaded",
            |_, seen, r| if seen.line.contains("/manifests/") { Reply::status(503) } else { r },
            "answered 503",
            ErrorKind::Unavailable,
        ),
        (
            "promised another digest",
            |_, seen, r| {
                if seen.line.contains("/manifests/latest") {
                    r.with("Docker-Content-Digest", Digest::of(b"x").to_string())
                } else {
                    r
                }
            },
            "verification failed",
            ErrorKind::System,
        ),
    ];
    for (what, twist, text, kind) in cases {
        let served = Served::new();
        let server = Server::start(move |seen| twist(&served, seen, served.answer(seen)));
        let (images, dir) = quick(RegistryConfig::default());
        let error = pull(&images, &server, &Credentials::Anonymous).await.unwrap_err();
        assert!(error.report().contains(text), "{what}: {}", error.report());
        assert_eq!(error.kind(), kind, "{what}: {}", error.report());
        assert_eq!(images.count(), 0);
        Store { images, dir }.assert_empty().await;
    }
}

#[tokio::test]
async fn tokens_are_fetched_and_renewed_and_stay_with_the_registry() {
    let served = Served::new();
    let storage = {
        let served = served.clone();
        Server::start(move |seen| served.answer(seen))
    };
    let elsewhere = storage.address.to_string();
    let issued = Arc::new(AtomicUsize::new(0));
    let tokens = {
        let issued = Arc::clone(&issued);
        Server::start(move |seen| {
            let good = base64::engine::general_purpose::STANDARD.encode("me:secret");
            if seen.headers.get("authorization") != Some(&format!("Basic {good}")) {
                return Reply {
                    status: 401,
                    ..Reply::ok(r#"{"details":"incorrect username or password"}"#)
                };
            }
            assert!(
                seen.line.contains("service=test")
                    && seen.line.contains("scope=repository%3Aapp%3Apull"),
                "{}",
                seen.line
            );
            Reply::ok(format!(r#"{{"token":"t{}"}}"#, issued.fetch_add(1, Ordering::SeqCst) + 1))
        })
    };
    let realm = format!("http://{}/token", tokens.address);
    let server = Server::start(move |seen| {
        // The first token is good for the greeting only.
        let token = seen.headers.get("authorization").cloned().unwrap_or_default();
        if token.is_empty() || (token == "Bearer t1" && seen.line.contains("/blobs/")) {
            return Reply::status(401).with(
                "WWW-Authenticate",
                format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:app:pull\""),
            );
        }
        if seen.line.contains("/blobs/") {
            let path = seen.line.split(' ').nth(1).unwrap();
            return Reply::status(307).with("Location", format!("http://{elsewhere}{path}"));
        }
        served.answer(seen)
    });
    let (images, _dir) = quick(RegistryConfig::default());
    let error = pull(
        &images,
        &server,
        &Credentials::Password { username: "me".into(), password: "no".into() },
    )
    .await
    .unwrap_err();
    assert!(error.report().contains("incorrect username or password"), "{}", error.report());
    pull(
        &images,
        &server,
        &Credentials::Password { username: "me".into(), password: "secret".into() },
    )
    .await
    .unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    let leaked =
        storage.seen.lock().unwrap().iter().any(|seen| seen.headers.contains_key("authorization"));
    assert!(!leaked, "a token went to another host");
}

#[tokio::test]
async fn mirrors_come_first_and_may_fail() {
    let served = Served::new();
    let broken = Server::start(|_| Reply::status(500));
    let mirror = Server::start(move |seen| served.answer(seen));
    let mirrors = vec![format!("http://{}", broken.address), format!("http://{}/", mirror.address)];
    let (images, _dir) = quick(RegistryConfig { mirrors, ..RegistryConfig::default() });
    let name = Reference::parse("busybox").unwrap();
    let who = Credentials::Password { username: "me".into(), password: "secret".into() };
    images.pull(&name, None, &who, Progress::none()).await.unwrap();
    assert_eq!(images.get("busybox").unwrap().repo_digests.len(), 1);
    assert_eq!(mirror.count("/v2/library/busybox/manifests/latest"), 1);
    assert!(
        mirror.seen.lock().unwrap().iter().all(|seen| !seen.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn concurrent_pulls_share_a_download_and_dropped_ones_clean_up() {
    let served = Served::new();
    let blob = Digest::of(&served.layer).to_string();
    let server = {
        let blob = blob.clone();
        Server::start(move |seen| {
            if seen.line.contains(&blob) {
                std::thread::sleep(Duration::from_millis(200));
            }
            served.answer(seen)
        })
    };
    let (images, dir) = quick(RegistryConfig::default());
    {
        // Given up while the layer is under way.
        let asked = async {
            while server.count(&blob) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let given_up = pull(&images, &server, &Credentials::Anonymous);
        tokio::select! {
            pulled = given_up => panic!("it ended: {pulled:?}"),
            () = asked => {}
        }
    }
    let store = Store { images, dir };
    let blobs = store.dir.path().join("images/blobs/sha256");
    for round in 0.. {
        if std::fs::read_dir(&blobs).unwrap().count() == 0 {
            break;
        }
        assert!(round < 500);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = server.count(&blob);
    let pulls = (0..5).map(|_| pull(&store.images, &server, &Credentials::Anonymous));
    for pulled in futures::future::join_all(pulls).await {
        pulled.unwrap();
    }
    assert_eq!(server.count(&blob) - before, 1);
}

#[tokio::test]
async fn an_unreachable_registry_is_named() {
    let (images, _dir) = quick(RegistryConfig::default());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = Reference::parse(&format!("127.0.0.1:{port}/x")).unwrap();
    let error =
        images.pull(&name, None, &Credentials::Anonymous, Progress::none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.report().contains(&port.to_string())
            && error.report().ends_with(": connection refused"),
        "{}",
        error.report()
    );
    // RFC 6761: no resolver knows a name under `invalid`.
    let name = Reference::parse("registry.invalid/x").unwrap();
    let error =
        images.pull(&name, None, &Credentials::Anonymous, Progress::none()).await.unwrap_err();
    let said = error.report();
    assert!(
        said.contains("https://registry.invalid/v2/: cannot look up registry.invalid: "),
        "{said}"
    );
}

#[tokio::test]
async fn a_layer_that_nobody_serves_is_not_waited_for() {
    let served = Served::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let layer = Digest::of(&served.layer).to_string();
    let server = Server::start(move |seen| match seen.line.contains(&layer) {
        true => Reply::status(307).with("Location", format!("http://{gone}/layer")),
        false => served.answer(seen),
    });
    let (images, _dir) = quick(RegistryConfig::default());
    let error = pull(&images, &server, &Credentials::Anonymous).await.unwrap_err();
    let said = error.report();
    assert!(said.contains(&gone.to_string()) && said.contains("refused"), "{said}");
    assert_eq!(server.count("/blobs/") - 1, 2, "the configuration, and the layer twice");
}
