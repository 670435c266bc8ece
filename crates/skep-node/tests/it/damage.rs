//! What cannot be read of a membership is kept, and said where people look.

use std::path::Path;

use skep_node::{LocalNodeState, NotManager};
use skep_types::ErrorKind;

use crate::rig::{Rig, start, until};

/// Damages one file and gives the way back.
fn damage(file: &Path, content: Option<&str>) -> impl FnOnce() + use<> {
    let aside = file.with_extension("kept-by-the-test");
    std::fs::rename(file, &aside).unwrap();
    if let Some(content) = content {
        std::fs::write(file, content).unwrap();
    }
    let file = file.to_owned();
    move || {
        if file.is_dir() {
            std::fs::remove_dir_all(&file).unwrap();
        }
        std::fs::rename(&aside, &file).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_membership_that_cannot_be_read_says_why_and_stays() {
    let mut rig = Rig::new("one").await;
    rig.init().await;
    let swarm = rig.folder.path().join("swarm");
    let newer = Some(r#"{"format":2,"Phase":["another","shape"]}"#);
    for (file, content, says) in [
        ("state.json", Some(""), "it is empty"),
        ("state.json", newer, "newer version"),
        ("state.json", None, "state.json is missing"),
        ("raft/log.redb", Some(""), "log.redb is empty"),
        ("raft/log.redb", None, "log.redb is missing"),
        ("raft/log.redb", Some("nonsense"), "cannot open the raft log"),
        ("raft", None, "is missing"),
        ("certificates", None, "certificate"),
    ] {
        rig.node.shutdown().await;
        let repair = damage(&swarm.join(file), content);
        rig.node = start(rig.folder.path(), &rig.world, rig.hostname).await;
        let info = rig.node.info().await;
        assert_eq!(info.local_state, LocalNodeState::Error, "{file}");
        assert!(info.error.contains(says), "{file}: {}", info.error);
        // What `docker node ls` shows.
        match rig.node.control() {
            Err(NotManager::Failed(reason)) => assert_eq!(reason, info.error),
            other => panic!("{file}: {:?}", other.err()),
        }
        assert!(rig.node.init(rig.init_request()).await.is_err(), "{file}");
        rig.node.shutdown().await;
        repair();
        rig.node = start(rig.folder.path(), &rig.world, rig.hostname).await;
        until("the repaired manager leads", || async { rig.node.control().ok() }).await;
    }

    // What can be made anew is.
    rig.node.shutdown().await;
    std::fs::write(swarm.join("worker/tasks.db"), "nonsense").unwrap();
    rig.restart().await;
    assert_eq!(std::fs::read(swarm.join("worker/tasks.db.damaged")).unwrap(), b"nonsense");

    // Whether it is given up is for the user to say.
    rig.node.shutdown().await;
    std::fs::write(swarm.join("state.json"), "").unwrap();
    rig.node = start(rig.folder.path(), &rig.world, rig.hostname).await;
    let refused = rig.node.leave(false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    rig.node.leave(true).await.unwrap();
    assert_eq!(rig.node.info().await.local_state, LocalNodeState::Inactive);
    rig.init().await;
    rig.node.shutdown().await;
}
