use skep_manager::{ClusterUpdate, NodeFilter};
use skep_node::{JoinRequest, LocalNodeState, NotManager};
use skep_types::{ErrorKind, NodeAvailability, NodeRole, NodeState};

use crate::rig::{Rig, service, until, until_running};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_joins_runs_tasks_and_leaves() {
    let manager = Rig::new("one").await;
    let control = manager.init().await;
    let token = control.join_tokens().await.unwrap().worker;
    let mut worker = Rig::new("two").await;

    let bad = JoinRequest {
        remote_addrs: vec![manager.addr()],
        token: token[..token.len() - 25].to_owned() + "0000000000000000000000000",
        listen_addr: worker.addr(),
        advertise_addr: "127.0.0.1".to_owned(),
        ..JoinRequest::default()
    };
    let refused = worker.node.join(bad).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster"
    );
    assert_eq!(worker.node.info().await.local_state, LocalNodeState::Inactive);

    let request = JoinRequest {
        remote_addrs: vec![manager.addr()],
        token: control.join_tokens().await.unwrap().manager,
        advertise_addr: "127.0.0.1".to_owned(),
        ..JoinRequest::default()
    };
    let refused = worker.node.join(request).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotImplemented);
    assert_eq!(control.list_nodes(&NodeFilter::default()).await.unwrap().len(), 1);

    let request = JoinRequest {
        remote_addrs: vec![manager.addr()],
        token,
        listen_addr: worker.addr(),
        advertise_addr: "127.0.0.1".to_owned(),
        availability: NodeAvailability::Active,
        ..JoinRequest::default()
    };
    worker.node.join(request).await.unwrap();
    assert_eq!(worker.node.control().err(), Some(NotManager::Worker));
    let info = worker.node.info().await;
    assert_eq!(info.local_state, LocalNodeState::Active);
    assert_eq!(info.remote_managers[0].addr, manager.addr());

    let nodes = control.list_nodes(&NodeFilter::default()).await.unwrap();
    assert_eq!(nodes.len(), 2);
    let two = nodes.iter().find(|n| n.description.hostname == "two").unwrap();
    assert_eq!((two.role, two.status.state), (NodeRole::Worker, NodeState::Ready));

    control.create_service(service("web", 6)).await.unwrap();
    until_running(&control, "web", 6).await;
    assert_eq!(manager.world.containers().len(), 3, "tasks are spread");
    assert_eq!(worker.world.containers().len(), 3);

    // The worker's daemon restarts: its containers are adopted. It finds the manager without the address
    // that it joined by.
    worker.node.shutdown().await;
    let managers = worker.folder.path().join("swarm/managers.json");
    let known = std::fs::read_to_string(managers).unwrap();
    assert!(known.contains(&manager.addr()), "{known}");
    let path = worker.folder.path().join("swarm/state.json");
    let state = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, state.replace(&format!("\"{}\"", manager.addr()), "\"127.0.0.1:1\""))
        .unwrap();
    worker.node = crate::rig::start(worker.folder.path(), &worker.world, "two").await;
    until("the worker is in session again", || async {
        (worker.node.info().await.local_state == LocalNodeState::Active).then_some(())
    })
    .await;
    until_running(&control, "web", 6).await;
    assert!(worker.world.starts.lock().unwrap().values().all(|n| *n == 1));

    // Drained, its tasks move.
    let two = control.get_node(two.id.as_str()).await.unwrap();
    let mut spec = two.spec.clone();
    spec.availability = NodeAvailability::Drain;
    control.update_node(two.id.as_str(), two.meta.version, spec).await.unwrap();
    until("all tasks are on the manager", || async {
        (manager.world.running() == 6 && worker.world.running() == 0).then_some(())
    })
    .await;

    worker.node.leave(false).await.unwrap();
    assert_eq!(worker.node.info().await.local_state, LocalNodeState::Inactive);
    let busy = control.remove_node(two.id.as_str(), false).await;
    if busy.is_err() {
        control.remove_node(two.id.as_str(), true).await.unwrap();
    }
    assert_eq!(control.list_nodes(&NodeFilter::default()).await.unwrap().len(), 1);
    manager.node.shutdown().await;
}

/// Another root: every node gets a certificate of it without a moment of not being trusted, and old join
/// tokens are worth nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_root_reaches_every_node() {
    let mut manager = Rig::new("one").await;
    let control = manager.init().await;
    let request = |token: &str, rig: &Rig| JoinRequest {
        remote_addrs: vec![manager.addr()],
        token: token.to_owned(),
        listen_addr: rig.addr(),
        advertise_addr: "127.0.0.1".to_owned(),
        ..JoinRequest::default()
    };
    let old_token = control.join_tokens().await.unwrap().worker;
    let (worker, third) = (Rig::new("two").await, Rig::new("three").await);
    worker.node.join(request(&old_token, &worker)).await.unwrap();
    control.create_service(service("web", 4)).await.unwrap();
    until_running(&control, "web", 4).await;

    let old = control.cluster().await.unwrap();
    let mut spec = old.spec.clone();
    spec.ca_config.force_rotate += 1;
    let update = ClusterUpdate { version: old.meta.version, spec, ..ClusterUpdate::default() };
    let under_way = control.update_cluster(update).await.unwrap().root_ca;
    assert!(under_way.root_rotation.is_some_and(|rotation| rotation.ca_key.0.is_empty()));
    assert_eq!(under_way.ca_cert, old.root_ca.ca_cert);
    let new = until("the rotation has ended", || async {
        let cluster = control.cluster().await.unwrap();
        cluster.root_ca.root_rotation.is_none().then_some(cluster.root_ca.ca_cert.0)
    })
    .await;
    assert_ne!(new, old.root_ca.ca_cert.0);
    for rig in [&manager, &worker] {
        let root = rig.folder.path().join("swarm/certificates/swarm-root-ca.crt");
        until("the node trusts the new root", || async {
            (std::fs::read(&root).unwrap() == new).then_some(())
        })
        .await;
    }
    third.node.join(request(&old_token, &third)).await.unwrap_err();
    let token = control.join_tokens().await.unwrap().worker;
    third.node.join(request(&token, &third)).await.unwrap();
    let starts = |rig: &Rig| rig.world.starts.lock().unwrap().values().all(|n| *n == 1);
    assert!(starts(&manager) && starts(&worker), "no task noticed");

    let control = manager.restart().await;
    until("all nodes are ready", || async {
        let nodes = control.list_nodes(&NodeFilter::default()).await.unwrap();
        let ready = nodes.iter().filter(|node| node.status.state == NodeState::Ready).count();
        (ready == 3).then_some(())
    })
    .await;
    for rig in [&third, &worker, &manager] {
        rig.node.shutdown().await;
    }
}
