//! `kill -9` at random moments of init, work and leave: a host is a member as it was told, or none.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use skep_manager::{Filter, NodeFilter};
use skep_node::{InitRequest, LocalNodeState};
use skep_types::{Annotations, Bytes64, ConfigSpec};

use crate::rig::{LIMIT, free_port, start, until};

const DIR: &str = "SKEP_CRASH_DIR";
const PORT: &str = "SKEP_CRASH_PORT";
const ROUNDS: u64 = 30;

/// Not a test: what the killed process does, saying what it was told has worked.
#[ignore = "run by a_host_is_a_member_or_not_after_kill_9"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_inits_and_leaves_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let listen_addr = format!("127.0.0.1:{}", std::env::var(PORT).unwrap());
    let node = start(&dir, &Arc::default(), "child").await;
    loop {
        if !node.is_member() {
            println!("step initing");
            let request =
                InitRequest { listen_addr: listen_addr.clone(), ..InitRequest::default() };
            node.init(request).await.unwrap();
            println!("step inited");
        }
        let control = until("the manager leads", || async { node.control().ok() }).await;
        for n in 0..3 {
            let name = format!("c{}-{n}", std::process::id());
            let spec = ConfigSpec {
                annotations: Annotations { name: name.clone(), ..Annotations::default() },
                data: Bytes64(vec![1]),
                ..ConfigSpec::default()
            };
            // In a later turn of the same process the name may be there.
            if control.create_config(spec).await.is_ok() {
                println!("step wrote {name}");
            }
        }
        println!("step leaving");
        node.leave(true).await.unwrap();
        println!("step left");
    }
}

/// What a host must be, from what was said.
#[derive(Default)]
struct Told {
    member: Option<bool>,
    wrote: Vec<String>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            // Begun, and not acknowledged: either is right.
            ("initing" | "leaving", _) => self.member = None,
            ("inited", _) => (self.member, self.wrote) = (Some(true), Vec::new()),
            ("wrote", name) => self.wrote.push(name.to_owned()),
            ("left", _) => (self.member, self.wrote) = (Some(false), Vec::new()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_a_member_or_not_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut told = Told { member: Some(false), wrote: Vec::new() };
    let mut members = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::child_inits_and_leaves_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .env(PORT, port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines
                .filter_map(|line| Some(line.split_once("step ")?.1.to_owned()))
                .collect::<Vec<_>>()
        });
        tokio::time::sleep(Duration::from_millis(rand::random_range(1..=120))).await;
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "round {round}: the child ended by itself: {status}");
        for line in reader.join().unwrap() {
            told.hear(&line);
        }

        let node = start(dir.path(), &Arc::default(), "parent").await;
        if let Some(member) = told.member {
            assert_eq!(node.is_member(), member, "round {round}");
        }
        if node.is_member() {
            members += 1;
            let led = tokio::time::timeout(
                LIMIT,
                until("the manager leads", || async { node.control().ok() }),
            );
            let control = led.await.unwrap();
            let configs = control.list_configs(&Filter::default()).await.unwrap();
            for name in &told.wrote {
                let there = configs.iter().any(|config| config.spec.annotations.name == *name);
                assert!(there, "round {round}: {name} was acknowledged and is lost");
            }
            assert_eq!(control.list_nodes(&NodeFilter::default()).await.unwrap().len(), 1);
        } else {
            assert_eq!(node.info().await.local_state, LocalNodeState::Inactive, "round {round}");
            let left: Vec<_> = std::fs::read_dir(dir.path().join("swarm")).map_or_else(
                |_| Vec::new(),
                |entries| entries.map(|e| e.unwrap().path()).collect(),
            );
            assert!(left.is_empty(), "round {round}: left of a swarm: {left:?}");
            told.wrote.clear();
        }
        told.member = Some(node.is_member());
        node.shutdown().await;
    }
    println!("a member after {members} of {ROUNDS} kills");
}
