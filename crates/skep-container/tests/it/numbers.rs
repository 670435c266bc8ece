//! Time and memory, printed (`--no-capture`), with generous bounds against gross mistakes.

use std::time::{Duration, Instant};

use crate::fixture::{Bed, Options, wait};

#[tokio::test]
async fn create_start_and_exit_are_quick() {
    let bed = Bed::new();
    let mut best = Duration::MAX;
    for round in 0..5 {
        let started = Instant::now();
        let handle = bed.create(Options { log: true, ..Options::new(&["true"]) }).await;
        let created = started.elapsed();
        handle.start().await.expect("start");
        let running = started.elapsed();
        wait(&handle).await;
        let exited = started.elapsed();
        handle.delete().await.expect("delete");
        println!(
            "round {round}: created {created:?}, running {running:?}, exited {exited:?}, deleted {:?}",
            started.elapsed()
        );
        best = best.min(exited);
    }
    assert!(best < Duration::from_secs(2), "{best:?}");
}

#[tokio::test]
async fn a_shim_is_small() {
    let bed = Bed::new();
    let handle = bed.create(Options { log: true, ..Options::sh("seq 1 100000; sleep 100") }).await;
    handle.start().await.expect("start");
    while handle.pids().await.expect("pids").len() < 2 {
        tokio::task::yield_now().await;
    }
    let shim = handle.state().await.expect("state").shim_pid.expect("shim");
    let rollup = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).expect("smaps");
    let kib = |key: &str| -> u64 {
        let line = rollup.lines().find(|l| l.starts_with(key)).expect("key");
        line.split_whitespace().nth(1).expect("number").parse().expect("number")
    };
    // Pages of the executable are shared with the daemon and all other shims (and count as dirty
    // while a fresh build is not on disk yet); what a shim costs is its anonymous memory.
    println!(
        "shim: Rss {} KiB, Pss {} KiB, anonymous {} KiB",
        kib("Rss:"),
        kib("Pss:"),
        kib("Anonymous:")
    );
    if let Ok(file) = std::env::var("SKEP_SHIM_SMAPS") {
        std::fs::copy(format!("/proc/{shim}/smaps"), file).expect("copy");
    }
    assert!(kib("Anonymous:") < 2048, "{rollup}");
    handle.delete().await.expect("delete");
}

/// Many at once, by a bundle path longer than a socket address.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_work() {
    let started = Instant::now();
    let tasks: Vec<_> = (0..24)
        .map(|n| {
            tokio::spawn(async move {
                let mut bed = Bed::new();
                bed.nest(&"long-directory-name/".repeat(8));
                let (status, out, _) = bed.run(Options::sh(&format!("echo {n}; exit {n}"))).await;
                assert_eq!((status.code, out), (n, format!("{n}\n")));
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("container");
    }
    println!("24 containers in {:?}", started.elapsed());
}

#[tokio::test]
async fn an_exec_is_quick() {
    let bed = Bed::new();
    let handle = bed.create(Options::new(&["sleep", "100"])).await;
    handle.start().await.expect("start");
    for n in 0..5 {
        let id = format!("e{n}");
        let started = Instant::now();
        let process = bed.process(&["true".to_owned()]);
        let request = skep_container::ExecRequest {
            id: id.clone(),
            process,
            tty: false,
            open_stdin: false,
            console_size: None,
        };
        handle.exec_create(request).await.expect("create");
        handle.exec_start(&id).await.expect("start");
        let running = started.elapsed();
        assert_eq!(handle.exec_wait(&id).await.expect("wait").code, 0);
        println!("exec: running {running:?}, exited {:?}", started.elapsed());
    }
    handle.delete().await.expect("delete");
}
