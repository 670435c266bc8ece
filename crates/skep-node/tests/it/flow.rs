use std::time::Instant;

use futures::StreamExt;
use skep_manager::{LogOptions, LogSelector, NodeFilter, ServiceUpdate};
use skep_node::{LocalNodeState, NotManager};
use skep_types::{ErrorKind, NodeState, ReplicatedService, ServiceMode, TaskState, Version};

use crate::rig::{Rig, service, tasks, until, until_running};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_create_scale_remove() {
    let rig = Rig::new("one").await;
    assert_eq!(rig.node.control().err(), Some(NotManager::Inactive));
    let start = Instant::now();
    let control = rig.init().await;
    println!("init: {:?}", start.elapsed());

    let nodes = control.list_nodes(&NodeFilter::default()).await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].status.state, NodeState::Ready);
    assert_eq!(nodes[0].description.hostname, "one");
    assert_eq!(nodes[0].status.addr, "127.0.0.1");
    let manager = nodes[0].manager_status.as_ref().unwrap();
    assert!(manager.leader);
    assert_eq!(manager.addr, rig.addr());
    until("the executor has the network keys", || async {
        (rig.world.keys.lock().unwrap().len() == 6).then_some(())
    })
    .await;

    let created = control.create_service(service("web", 3)).await.unwrap();
    let first = until_running(&control, "web", 3).await;
    assert!(first.iter().all(|t| t.node_id == nodes[0].id && t.status.container_status.is_some()));
    let duplicate = control.create_service(service("web", 1)).await.unwrap_err();
    assert_eq!(duplicate.kind, ErrorKind::AlreadyExists, "{duplicate}");

    let start = Instant::now();
    let stale = ServiceUpdate {
        version: Version { index: 1 },
        spec: service("web", 5),
        ..Default::default()
    };
    let refused = control.update_service("web", stale).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::OutOfSequence);
    assert_eq!(refused.message, "update out of sequence");
    let version = control.get_service(created.id.as_str(), false).await.unwrap().meta.version;
    let update = ServiceUpdate { version, spec: service("web", 39), ..Default::default() };
    control.update_service("web", update).await.unwrap();
    let all = until_running(&control, "web", 39).await;
    println!("36 more tasks: {:?}", start.elapsed());
    for old in &first {
        assert!(all.iter().any(|t| t.id == old.id), "scaling up keeps what runs");
    }

    let version = control.get_service("web", false).await.unwrap().meta.version;
    let mut spec = service("web", 2);
    spec.mode = ServiceMode::Replicated(ReplicatedService { replicas: Some(2) });
    control
        .update_service("web", ServiceUpdate { version, spec, ..Default::default() })
        .await
        .unwrap();
    until_running(&control, "web", 2).await;
    until("the rest is gone", || async { (rig.world.containers().len() == 2).then_some(()) }).await;

    control.remove_service(&created.id.as_str()[..6]).await.unwrap();
    until("no container is left", || async { rig.world.containers().is_empty().then_some(()) })
        .await;
    let gone = control.get_service("web", false).await.unwrap_err();
    assert_eq!((gone.kind, gone.message.as_str()), (ErrorKind::NotFound, "service web not found"));
    rig.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_six_tasks_from_nothing() {
    let rig = Rig::new("one").await;
    let control = rig.init().await;
    let start = Instant::now();
    control.create_service(service("web", 36)).await.unwrap();
    println!("created: {:?}", start.elapsed());
    until_running(&control, "web", 36).await;
    println!("36 tasks: {:?}", start.elapsed());
    rig.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_dies_is_replaced_and_a_failing_image_shows() {
    let rig = Rig::new("one").await;
    let control = rig.init().await;
    let mut spec = service("web", 1);
    spec.task_template.restart_policy = Some(skep_types::RestartPolicy {
        delay: Some(skep_types::Nanos::from_millis(1)),
        ..Default::default()
    });
    control.create_service(spec).await.unwrap();
    let first = until_running(&control, "web", 1).await;
    rig.world.kill(&first[0].id);
    let next = until("another task runs", || async {
        let live = until_running(&control, "web", 1).await;
        (live[0].id != first[0].id).then_some(live)
    })
    .await;
    assert_eq!(next[0].slot, first[0].slot);
    let dead = control.get_task(first[0].id.as_str()).await.unwrap();
    assert_eq!(dead.status.state, TaskState::Failed);
    assert!(dead.status.err.contains("non-zero exit (137)"), "{}", dead.status.err);

    let mut bad = service("bad", 1);
    bad.task_template.container_spec.as_mut().unwrap().image = "missing:1".to_owned();
    control.create_service(bad).await.unwrap();
    let rejected = until("a task is rejected", || async {
        tasks(&control, "bad").await.into_iter().find(|t| t.status.state == TaskState::Rejected)
    })
    .await;
    assert!(rejected.status.err.contains("No such image: missing:1"), "{}", rejected.status.err);
    rig.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_swarm_and_containers() {
    let mut rig = Rig::new("one").await;
    let control = rig.init().await;
    let cluster = control.cluster().await.unwrap();
    let tokens = control.join_tokens().await.unwrap();
    control.create_service(service("web", 4)).await.unwrap();
    let before = until_running(&control, "web", 4).await;
    let start = Instant::now();
    let control = rig.restart().await;
    println!("restart until led: {:?}", start.elapsed());
    assert_eq!(control.cluster().await.unwrap().id, cluster.id);
    assert_eq!(control.join_tokens().await.unwrap(), tokens);
    until("the node is ready again", || async {
        let nodes = control.list_nodes(&NodeFilter::default()).await.unwrap();
        (nodes[0].status.state == NodeState::Ready).then_some(())
    })
    .await;
    let after = until_running(&control, "web", 4).await;
    let ids = |tasks: &[skep_types::Task]| tasks.iter().map(|t| t.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
    assert!(
        rig.world.starts.lock().unwrap().values().all(|n| *n == 1),
        "nothing was started twice"
    );
    let version = control.get_service("web", false).await.unwrap().meta.version;
    let update = ServiceUpdate { version, spec: service("web", 6), ..Default::default() };
    control.update_service("web", update).await.unwrap();
    until_running(&control, "web", 6).await;
    rig.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_needs_force_and_leaves_nothing() {
    let rig = Rig::new("one").await;
    let control = rig.init().await;
    let again = rig.node.init(rig.init_request()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Unavailable);
    assert!(again.to_string().starts_with("This node is already part of a swarm."), "{again}");
    control.create_service(service("web", 2)).await.unwrap();
    until_running(&control, "web", 2).await;
    let warned = rig.node.leave(false).await.unwrap_err();
    assert_eq!(
        warned.to_string(),
        "You are attempting to leave the swarm on a node that is participating as a manager. Removing \
         the last manager erases all current state of the swarm. Use `--force` to ignore this message. "
    );
    let info = rig.node.info().await;
    assert_eq!(info.local_state, LocalNodeState::Active);
    assert!(info.control_available);
    assert_eq!((info.nodes, info.managers), (Some(1), Some(1)));
    assert_eq!(info.remote_managers.len(), 1);
    assert_eq!(info.cluster.unwrap().data_path_port, 4789);

    rig.node.leave(true).await.unwrap();
    assert!(rig.world.containers().is_empty());
    assert_eq!(*rig.world.left.lock().unwrap(), 1);
    assert_eq!(rig.node.info().await.local_state, LocalNodeState::Inactive);
    let left: Vec<_> = std::fs::read_dir(rig.folder.path().join("swarm")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        rig.node.leave(true).await.unwrap_err().to_string(),
        "This node is not part of a swarm"
    );
    assert_eq!(control.cluster().await.unwrap_err().kind, ErrorKind::Unavailable);

    // A new swarm can be made at once.
    rig.init().await;
    rig.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_every_task() {
    let rig = Rig::new("one").await;
    let control = rig.init().await;
    control.create_service(service("web", 3)).await.unwrap();
    until_running(&control, "web", 3).await;
    let selector = LogSelector { services: vec!["web".to_owned()], ..LogSelector::default() };
    // The agent's listening stream is opened beside its session.
    let lines = until("logs are complete", || async {
        let stream = control.logs(selector.clone(), LogOptions::default()).await.unwrap();
        let lines: Vec<_> = stream.collect().await;
        lines.iter().all(Result::is_ok).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 9);
    let line = lines[0].as_ref().unwrap();
    assert!(line.data.starts_with(b"line "), "{line:?}");

    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut stream = control.logs(selector, options).await.unwrap();
    for _ in 0..9 {
        stream.next().await.unwrap().unwrap();
    }
    let version = control.get_service("web", false).await.unwrap().meta.version;
    let update = ServiceUpdate { version, spec: service("web", 4), ..Default::default() };
    control.update_service("web", update).await.unwrap();
    for _ in 0..3 {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    rig.node.shutdown().await;
}
