//! `kill -9` at random moments: what was acknowledged is there afterwards.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use skep_manager::Filter;
use skep_types::{Annotations, Bytes64, ConfigSpec};

use crate::rig::{default_spec, found, resume};

/// Set for the child: its folder.
const DIR: &str = "SKEP_CRASH_DIR";
const ROUNDS: usize = 12;

fn config(name: String) -> ConfigSpec {
    ConfigSpec {
        annotations: Annotations { name, ..Annotations::default() },
        data: Bytes64(vec![7; 2000]),
        ..ConfigSpec::default()
    }
}

/// Not a test: what the killed process does.
#[ignore = "run by acknowledged_writes_survive_kill_9"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let manager = resume(&dir).await;
    let control = manager.control();
    let round = std::process::id();
    let mut workers = tokio::task::JoinSet::new();
    // Several at once, so that entries hold several transactions.
    for worker in 0..4 {
        let control = control.clone();
        workers.spawn(async move {
            for n in 0.. {
                let name = format!("c{round}-{worker}-{n}");
                control.create_config(config(name.clone())).await.unwrap();
                println!("done {name}");
            }
        });
    }
    workers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, _) = found(dir.path(), default_spec()).await;
    manager.stop().await;
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines
                .filter_map(|line| Some(line.split_once("done ")?.1.to_owned()))
                .collect::<Vec<_>>()
        });
        // The moment is what is tried out; early ones hit the start itself.
        tokio::time::sleep(Duration::from_millis(rand::random_range(1..=60 * (round as u64 + 1))))
            .await;
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the child ended by itself: {status}");
        acknowledged.extend(reader.join().unwrap());

        let manager = resume(dir.path()).await;
        let configs = manager.control().list_configs(&Filter::default()).await.unwrap();
        let names: std::collections::BTreeSet<_> =
            configs.iter().map(|config| config.spec.annotations.name.clone()).collect();
        for name in &acknowledged {
            assert!(names.contains(name), "round {round}: {name} was acknowledged and is lost");
        }
        manager.stop().await;
    }
    assert!(!acknowledged.is_empty(), "no round lasted long enough to write anything");
    println!("{} acknowledged writes in {ROUNDS} rounds", acknowledged.len());
}
