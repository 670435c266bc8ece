use skep_manager::{ClusterUpdate, NodeFilter};
use skep_node::{InitRequest, LocalNodeState, NodeError, NotManager};
use skep_types::NodeState;

use crate::rig::{Rig, free_port, start, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autolock_asks_for_the_key_after_a_restart() {
    let mut rig = Rig::new("one").await;
    let request = InitRequest { autolock: true, ..rig.init_request() };
    rig.node.init(request).await.unwrap();
    let control = rig.node.control().unwrap();
    let key = control.unlock_key().await.unwrap();
    assert!(key.starts_with("SWMKEY-1-"), "{key}");
    let keys = rig.folder.path().join("swarm/raft/keys.json");
    let identity = rig.folder.path().join("swarm/certificates/swarm-node.key");
    // The node's own key is what others know it by: it is sealed along with the log's.
    let sealed = || {
        let key = std::fs::read_to_string(&identity).unwrap();
        let locked = key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----");
        let log = std::fs::read_to_string(&keys).unwrap().contains("\"locked\"");
        (locked == log).then_some(locked)
    };
    until("the keys are sealed", || async { sealed().filter(|locked| *locked) }).await;
    rig.node.shutdown().await;
    rig.node = start(rig.folder.path(), &rig.world, "one").await;
    assert_eq!(rig.node.info().await.local_state, LocalNodeState::Locked);
    assert_eq!(rig.node.control().err(), Some(NotManager::Locked));
    assert!(matches!(rig.node.leave(false).await, Err(NodeError::LeaveNeedsForce(_))));
    let wrong = "SWMKEY-1-".to_owned() + &"A".repeat(43);
    assert!(matches!(rig.node.unlock(&wrong).await, Err(NodeError::WrongUnlockKey)));
    rig.node.unlock(&key).await.unwrap();
    let control = until("the manager leads", || async { rig.node.control().ok() }).await;
    assert!(matches!(rig.node.unlock(&key).await, Err(NodeError::NotLocked)));

    // Another unlock key: the old one opens nothing any more.
    let cluster = control.cluster().await.unwrap();
    let update = ClusterUpdate {
        version: cluster.meta.version,
        spec: cluster.spec,
        rotate_manager_unlock_key: true,
        ..ClusterUpdate::default()
    };
    let before = std::fs::read(&identity).unwrap();
    control.update_cluster(update).await.unwrap();
    let second = control.unlock_key().await.unwrap();
    until("the key is sealed anew", || async {
        (std::fs::read(&identity).unwrap() != before).then_some(())
    })
    .await;
    rig.node.shutdown().await;
    rig.node = start(rig.folder.path(), &rig.world, "one").await;
    assert_eq!(rig.node.info().await.local_state, LocalNodeState::Locked);
    assert!(matches!(rig.node.unlock(&key).await, Err(NodeError::WrongUnlockKey)));
    rig.node.unlock(&second).await.unwrap();
    until("the manager leads", || async { rig.node.control().ok() }).await;

    // One that is unlocked begins a new cluster with the key that it has.
    let again = InitRequest { force_new_cluster: true, ..InitRequest::default() };
    rig.node.init(again).await.unwrap();
    let control = until("the manager leads", || async { rig.node.control().ok() }).await;
    assert_eq!(control.unlock_key().await.unwrap(), second);

    let cluster = control.cluster().await.unwrap();
    let mut spec = cluster.spec.clone();
    spec.encryption_config.auto_lock_managers = false;
    let update = ClusterUpdate { version: cluster.meta.version, spec, ..ClusterUpdate::default() };
    control.update_cluster(update).await.unwrap();
    until("the keys are in the clear", || async { sealed().filter(|locked| !locked) }).await;
    rig.restart().await;
    rig.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_can_be_forced_on_another_port() {
    let mut rig = Rig::new("one").await;
    let control = rig.init().await;
    let id = control.cluster().await.unwrap().id;
    rig.port = free_port();
    let request = InitRequest {
        force_new_cluster: true,
        listen_addr: rig.addr(),
        advertise_addr: rig.addr(),
        ..InitRequest::default()
    };
    rig.node.init(request).await.unwrap();
    let control = rig.node.control().unwrap();
    assert_eq!(control.cluster().await.unwrap().id, id);
    until("the node is ready at its new address", || async {
        let nodes = control.list_nodes(&NodeFilter::default()).await.unwrap();
        let manager = nodes[0].manager_status.clone().unwrap_or_default();
        (nodes.len() == 1
            && nodes[0].status.state == NodeState::Ready
            && manager.addr == rig.addr())
        .then_some(())
    })
    .await;
    rig.restart().await;
    rig.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named_and_leaves_nothing() {
    let rig = Rig::new("one").await;
    let taken = tokio::net::TcpListener::bind(rig.addr()).await.unwrap();
    let refused = rig.node.init(rig.init_request()).await.unwrap_err();
    assert!(refused.to_string().contains(&rig.addr()), "{refused}");
    assert_eq!(rig.node.info().await.local_state, LocalNodeState::Inactive);
    drop(taken);
    rig.init().await;

    // After a restart with the port taken the node is a member in error, and recovers.
    rig.node.shutdown().await;
    let taken = tokio::net::TcpListener::bind(rig.addr()).await.unwrap();
    let node = start(rig.folder.path(), &rig.world, "one").await;
    let info = node.info().await;
    assert_eq!(info.local_state, LocalNodeState::Error);
    assert!(info.error.contains(&rig.addr()), "{}", info.error);
    drop(taken);
    until("the node has recovered", || async { node.control().ok() }).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_gets_addresses_on_an_attachable_network() {
    let rig = Rig::new("one").await;
    let control = rig.init().await;
    let mut spec = skep_types::NetworkSpec { attachable: true, ..Default::default() };
    spec.annotations.name = "shared".to_owned();
    spec.driver_configuration.name = "overlay".to_owned();
    control.create_network(spec).await.unwrap();
    let missing = rig.node.attach_network("nowhere", "c1", Vec::new()).await.unwrap_err();
    assert_eq!(missing.to_string(), "network nowhere not found");
    let id = rig.node.attach_network("shared", "c1", Vec::new()).await.unwrap();
    let task = until("the attachment has an address", || async {
        let task = control.get_task(&id).await.unwrap();
        let attached = task.networks_attachments.first().is_some_and(|a| !a.addresses.is_empty());
        (attached && task.status.state >= skep_types::TaskState::Assigned).then_some(task)
    })
    .await;
    assert_eq!(task.networks_attachments[0].addresses.len(), 1);
    rig.node.detach_network(&id).await.unwrap();
    assert!(control.get_task(&id).await.is_err());
    rig.node.shutdown().await;
}
