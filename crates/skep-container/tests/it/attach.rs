//! Standard input and attached clients.

use futures::StreamExt;
use skep_container::AttachOptions;
use tokio::io::AsyncWriteExt;

use crate::fixture::{Bed, Options, collect, read_until, wait};

#[tokio::test]
async fn input_reaches_its_end() {
    let bed = Bed::new();
    let handle =
        bed.create(Options { open_stdin: true, stdin_once: true, ..Options::new(&["cat"]) }).await;
    let mut attached = handle.attach(AttachOptions::ALL).await.expect("attach");
    handle.start().await.expect("start");
    let data: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
    let reading = tokio::spawn(collect(attached.output));
    attached.stdin.write_all(data.as_bytes()).await.expect("write");
    attached.stdin.shutdown().await.expect("shutdown");
    let (out, _) = reading.await.expect("reading");
    assert_eq!(out.len(), data.len());
    assert_eq!(out, data);
    assert_eq!(wait(&handle).await.code, 0);
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_nothing() {
    let bed = Bed::new();
    let handle = bed
        .create(Options {
            open_stdin: true,
            stdin_once: true,
            ..Options::sh("while read x; do echo \"<$x>\"; done; echo end")
        })
        .await;
    let first = handle.attach(AttachOptions::ALL).await.expect("attach");
    handle.start().await.expect("start");
    drop(first);
    let mut second = handle.attach(AttachOptions::ALL).await.expect("attach");
    let third =
        handle.attach(AttachOptions { stdin: false, ..AttachOptions::ALL }).await.expect("attach");
    second.stdin.write_all(b"still here\n").await.expect("write");
    read_until(&mut second.output, "<still here>").await;
    second.stdin.shutdown().await.expect("shutdown");
    let (both, _) = collect(third.output).await;
    assert_eq!(both, "<still here>\nend\n", "every client gets everything");
    handle.delete().await.expect("delete");
}

#[tokio::test]
async fn without_open_stdin_the_input_is_empty() {
    let bed = Bed::new();
    let (status, out, _) = bed.run(Options::sh("cat; echo done")).await;
    assert_eq!((status.code, out.as_str()), (0, "done\n"));
}

/// What is left in the pipes when the process has ended (and longer than a process's left-overs are
/// waited for) is delivered as well.
#[tokio::test]
async fn last_words_wait_for_a_slow_client() {
    let bed = Bed::new();
    // More than client and socket buffers hold, less than these and the pipe.
    let handle = bed.create(Options::sh("head -c 560000 /dev/zero")).await;
    let late =
        handle.attach(AttachOptions { stdin: false, ..AttachOptions::ALL }).await.expect("attach");
    handle.start().await.expect("start");
    drop(tokio::time::timeout(std::time::Duration::from_millis(2500), handle.wait()).await);
    assert_eq!(collect(late.output).await.0.len(), 560_000);
    handle.delete().await.expect("delete");
}

/// A shim whose client has gone sleeps.
#[tokio::test]
async fn a_gone_client_costs_nothing() {
    let bed = Bed::new();
    let handle = bed.create(Options { open_stdin: true, ..Options::new(&["sleep", "100"]) }).await;
    handle.start().await.expect("start");
    drop(handle.attach(AttachOptions::ALL).await.expect("attach"));
    let shim = handle.state().await.expect("state").shim_pid.expect("shim");
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).expect("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        fields[11].parse::<u64>().expect("user") + fields[12].parse::<u64>().expect("system")
    };
    let before = ticks();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(ticks() - before < 5, "the shim is busy");
    handle.delete().await.expect("delete");
}

/// The other client waits while one does not read, and gets everything once it reads again.
#[tokio::test]
async fn a_client_that_reads_late_loses_nothing() {
    let bed = Bed::new();
    let handle = bed.create(Options::sh("seq 1 200000")).await;
    let mut late =
        handle.attach(AttachOptions { stdin: false, ..AttachOptions::ALL }).await.expect("attach");
    handle.start().await.expect("start");
    let blocked = tokio::time::timeout(std::time::Duration::from_millis(2500), handle.wait()).await;
    assert!(blocked.is_err(), "the container must wait for its client");
    let (mut bytes, mut tail) = (0, Vec::new());
    while let Some(piece) = late.output.next().await {
        let (_, piece) = piece.expect("output");
        bytes += piece.len();
        tail = piece.to_vec();
    }
    assert_eq!(bytes, 1_288_895);
    assert!(tail.ends_with(b"200000\n"));
    assert_eq!(wait(&handle).await.code, 0);
    handle.delete().await.expect("delete");
}
