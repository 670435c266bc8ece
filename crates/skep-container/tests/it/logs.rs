//! The log on disk and as a stream.

use futures::{FutureExt, StreamExt};
use skep_container::StdStream;
use skep_container::logs::{Follow, LogWatcher, ReadOptions, read};

use crate::fixture::{Bed, Options, PATIENCE};

async fn lines(bed: &Bed, max_size: Option<u64>, options: ReadOptions) -> Vec<String> {
    let stream = read(&bed.log_config(max_size), options);
    stream.map(|e| String::from_utf8_lossy(&e.expect("entry").line).into_owned()).collect().await
}

#[tokio::test]
async fn both_streams_are_kept_in_dockers_format() {
    let bed = Bed::new();
    bed.run(Options {
        log: true,
        ..Options::sh("echo one; sleep 0.05; echo two >&2; sleep 0.05; printf three")
    })
    .await;
    let text = std::fs::read_to_string(bed.log()).expect("log");
    let first: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("line")).expect("json");
    assert_eq!((first["log"].as_str(), first["stream"].as_str()), (Some("one\n"), Some("stdout")));
    assert!(first["time"].as_str().expect("time").ends_with('Z'));
    let entries: Vec<_> = read(&bed.log_config(None), ReadOptions::default())
        .map(|e| e.expect("entry"))
        .collect()
        .await;
    let streams: Vec<_> = entries.iter().map(|e| e.stream).collect();
    assert_eq!(streams, [StdStream::Stdout, StdStream::Stderr, StdStream::Stdout]);
    assert_eq!(entries[2].line, "three");
    let since = ReadOptions { since: Some(entries[1].time), ..Default::default() };
    assert_eq!(lines(&bed, None, since).await, ["two\n", "three"]);
    let until = ReadOptions { until: Some(entries[1].time), ..Default::default() };
    assert_eq!(lines(&bed, None, until).await, ["one\n", "two\n"]);
    assert_eq!(
        lines(&bed, None, ReadOptions { tail: Some(1), ..Default::default() }).await,
        ["three"]
    );
    assert!(
        lines(&bed, None, ReadOptions { tail: Some(0), ..Default::default() }).await.is_empty()
    );
}

#[tokio::test]
async fn rotation_keeps_the_newest_and_tails_span_files() {
    let bed = Bed::new();
    let max_size = Some(20_000);
    bed.run(Options {
        log: true,
        max_size,
        ..Options::sh("for i in $(seq 1 2000); do echo line $i; done")
    })
    .await;
    let all = lines(&bed, max_size, ReadOptions::default()).await;
    assert_eq!(all.last().map(String::as_str), Some("line 2000\n"));
    assert!(all.len() > 100 && all.len() < 2000, "{}", all.len());
    for tail in [1, 50, all.len() - 1] {
        let some =
            lines(&bed, max_size, ReadOptions { tail: Some(tail), ..Default::default() }).await;
        assert_eq!(some, all[all.len() - tail..]);
    }
    assert!(bed.log().with_extension("log.2").exists());
    assert!(!bed.log().with_extension("log.3").exists());
}

#[tokio::test]
async fn following_ends_with_the_container_and_misses_nothing() {
    let bed = Bed::new();
    let max_size = Some(100_000);
    let script = "for i in $(seq 1 1500); do echo line $i; done; sleep 0.2; for i in $(seq 1501 2500); do echo line $i; done";
    let handle = bed.create(Options { log: true, max_size, ..Options::sh(script) }).await;
    let waiter = handle.clone();
    let ended = async move { drop(waiter.wait().await) }.boxed();
    let follow = Follow { watcher: LogWatcher::default(), until: ended };
    let following =
        lines(&bed, max_size, ReadOptions { follow: Some(follow), ..Default::default() });
    let (started, got) = tokio::join!(handle.start(), tokio::time::timeout(PATIENCE, following));
    started.expect("start");
    let got = got.expect("in time");
    let wanted: Vec<String> = (1..=2500).map(|n| format!("line {n}\n")).collect();
    assert_eq!(got.len(), wanted.len());
    assert_eq!(got, wanted);
    handle.delete().await.expect("delete");
}

/// More than a host has inotify instances for (128), on one log and on several.
#[tokio::test]
async fn followers_are_not_bounded_by_what_the_kernel_watches() {
    const FOLLOWERS: usize = 300;
    let beds: Vec<Bed> = (0..3).map(|_| Bed::new()).collect();
    let watcher = LogWatcher::default();
    let mut streams: Vec<_> = (0..FOLLOWERS)
        .map(|n| {
            // Most are on the first.
            let bed = &beds[(n % 10) % 3 * usize::from(n % 10 > 6)];
            let follow =
                Follow { watcher: watcher.clone(), until: futures::future::pending().boxed() };
            read(&bed.log_config(None), ReadOptions { follow: Some(follow), ..Default::default() })
        })
        .collect();
    let entry = |n: usize| {
        let time = "2026-01-01T00:00:00Z";
        format!("{{\"log\":\"line {n}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n")
    };
    for n in 0..2 {
        for bed in &beds {
            use std::io::Write;
            let file = std::fs::File::options().append(true).create(true).open(bed.log());
            file.expect("log").write_all(entry(n).as_bytes()).expect("write");
        }
        for (at, stream) in streams.iter_mut().enumerate() {
            let next = tokio::time::timeout(PATIENCE, stream.next()).await;
            let next = next.unwrap_or_else(|_| panic!("follower {at} got nothing"));
            let line = next.expect("more").expect("entry").line;
            assert_eq!(line, format!("line {n}\n"));
        }
    }
    let instances = std::fs::read_dir("/proc/self/fd").expect("descriptors").filter(|entry| {
        let path = entry.as_ref().expect("entry").path();
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("inotify"))
    });
    assert_eq!(instances.count(), 1);
}
