//! Disks that refuse writes: nothing is lost, nothing has to be restarted.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skep_manager::{Control, Filter, NodeFilter};
use skep_node::{LocalNodeState, NotManager};
use skep_sys::testing::{SmallDisk, Trouble, in_own_mounts};
use skep_types::{Annotations, Bytes64, ErrorKind, NodeState, SecretSpec, TaskState};

use crate::rig::{Rig, service, tasks, until, until_running};

fn secret(name: &str) -> SecretSpec {
    SecretSpec {
        annotations: Annotations { name: name.to_owned(), ..Annotations::default() },
        data: Bytes64(b"x".to_vec()),
        ..SecretSpec::default()
    }
}

async fn secrets(control: &Control) -> Vec<String> {
    let found = control.list_secrets(&Filter::default()).await.unwrap_or_default();
    let mut names: Vec<String> = found.into_iter().map(|s| s.spec.annotations.name).collect();
    names.sort();
    names
}

fn alone<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    in_own_mounts(name, || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
        runtime.shutdown_timeout(Duration::from_secs(5));
    });
}

#[test]
fn a_full_disk_passes() {
    alone("full_disk::a_full_disk_passes", || async {
        let disk = SmallDisk::mount("size=32m,nr_inodes=200");
        let mut rig = Rig::on(tempfile::tempdir_in(disk.path()).unwrap(), "one").await;
        let control = rig.init().await;
        control.create_service(service("web", 2)).await.unwrap();
        until_running(&control, "web", 2).await;
        control.create_secret(secret("before")).await.unwrap();

        let full = disk.begin(Trouble::Full);
        let refused = control.create_secret(secret("meanwhile")).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::System);
        assert!(refused.message.ends_with("no space left on device"), "{refused}");
        assert!(refused.message.contains("/swarm/raft"), "it says where: {refused}");
        // The swarm is led and can be looked at, its tasks go on.
        let nodes = control.list_nodes(&NodeFilter::default()).await.unwrap();
        assert!(nodes[0].manager_status.as_ref().is_some_and(|manager| manager.leader));
        assert_eq!(secrets(&control).await, ["before"]);
        let lost = tasks(&control, "web").await.swap_remove(0).id;
        rig.world.kill(&lost);
        drop(full);
        // What has gathered is written, what was refused can be done now.
        until("a secret can be made", || async {
            control.create_secret(secret("after")).await.ok()
        })
        .await;
        // The agent reports what ended meanwhile once its own database takes writes again.
        until("the lost task is replaced", || async {
            let tasks = tasks(&control, "web").await;
            let running = tasks.iter().filter(|task| task.status.state == TaskState::Running);
            (running.clone().count() == 2 && running.clone().all(|task| task.id != lost))
                .then_some(())
        })
        .await;

        // A start while there is no room.
        let full = disk.begin(Trouble::Full);
        let control = rig.restart().await;
        assert_eq!(secrets(&control).await, ["after", "before"]);
        let refused = control.create_secret(secret("meanwhile")).await.unwrap_err();
        assert!(refused.message.ends_with("no space left on device"), "{refused}");
        drop(full);
        until("a secret can be made", || async {
            control.create_secret(secret("at-last")).await.ok()
        })
        .await;
        until("the node is ready", || async {
            let nodes = control.list_nodes(&NodeFilter::default()).await.ok()?;
            (nodes[0].status.state == NodeState::Ready).then_some(())
        })
        .await;

        // Without inodes nothing of this is hindered.
        let none_left = disk.begin(Trouble::NoInodes);
        control.create_secret(secret("inodes")).await.unwrap();
        let control = rig.restart().await;
        drop(none_left);
        assert_eq!(secrets(&control).await, ["after", "at-last", "before", "inodes"]);
        rig.node.shutdown().await;
    });
}

#[test]
fn a_failed_write_ends_the_manager_for_a_moment_only() {
    alone("full_disk::a_failed_write_ends_the_manager_for_a_moment_only", || async {
        let rig = Rig::new("one").await;
        let control = rig.init().await;
        control.create_service(service("web", 2)).await.unwrap();
        let running = until_running(&control, "web", 2).await;
        control.create_secret(secret("before")).await.unwrap();

        // No file may be written to any more, which no look at the disk tells.
        let before = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..before }).unwrap();
        control.create_secret(secret("meanwhile")).await.unwrap_err();
        let reason = until("the failure shows", || async {
            match rig.node.control().err() {
                Some(NotManager::Failed(reason)) => Some(reason),
                _ => None,
            }
        })
        .await;
        assert!(reason.contains("File too large"), "{reason}");
        assert_eq!(rig.node.info().await.local_state, LocalNodeState::Error);
        setrlimit(Resource::Fsize, before).unwrap();

        let control = until("the manager leads again", || async { rig.node.control().ok() }).await;
        until("a secret can be made", || async {
            control.create_secret(secret("after")).await.ok()
        })
        .await;
        assert_eq!(secrets(&control).await, ["after", "before"], "what was refused was not done");
        let now = until_running(&control, "web", 2).await;
        let ids = |tasks: &[skep_types::Task]| {
            let mut ids: Vec<_> = tasks.iter().map(|task| task.id.clone()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&now), ids(&running), "tasks went on");
        rig.node.shutdown().await;
    });
}
