use std::collections::BTreeSet;

use skep_proto::v1;
use skep_types::{
    Annotations, Bytes64, ContainerSpec, Nanos, NodeState, ReplicatedService, SecretReference,
    SecretSpec, ServiceMode, ServiceSpec, TaskSpec, TaskState,
};
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use v1::assignment::Item;
use v1::assignments_message::Type;
use v1::dispatcher_client::DispatcherClient;

use crate::rig::{LIMIT, Rig, default_spec, fast_heartbeat, found, resume, until};

type Client = DispatcherClient<Channel>;

async fn open(
    client: &mut Client,
    session: &str,
) -> (Streaming<v1::SessionMessage>, v1::SessionMessage) {
    let request = v1::SessionRequest {
        description: Some(v1::NodeDescription {
            hostname: "agent".to_owned(),
            resources: Some(v1::Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 8 << 30,
                ..Default::default()
            }),
            ..Default::default()
        }),
        session_id: session.to_owned(),
    };
    let mut stream = client.session(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    (stream, first)
}

fn service(name: &str, secret: Option<(&str, &str)>) -> ServiceSpec {
    let secrets = secret.map(|(id, name)| SecretReference {
        file: Some(skep_types::FileTarget {
            name: name.to_owned(),
            uid: "0".into(),
            gid: "0".into(),
            mode: 0o444,
        }),
        secret_id: id.into(),
        secret_name: name.to_owned(),
    });
    ServiceSpec {
        annotations: Annotations { name: name.to_owned(), ..Annotations::default() },
        mode: ServiceMode::Replicated(ReplicatedService { replicas: Some(1) }),
        task_template: TaskSpec {
            container_spec: Some(ContainerSpec {
                image: "web:1".to_owned(),
                secrets: secrets.into_iter().collect(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        },
        ..ServiceSpec::default()
    }
}

fn report(session: &str, task: &str, state: TaskState) -> v1::UpdateTaskStatusRequest {
    v1::UpdateTaskStatusRequest {
        session_id: session.to_owned(),
        updates: vec![v1::update_task_status_request::TaskStatusUpdate {
            task_id: task.to_owned(),
            status: Some(v1::TaskStatus { state: state.number(), ..Default::default() }),
        }],
    }
}

#[tokio::test]
async fn a_session_tells_node_managers_keys_and_root() {
    let rig = Rig::new(default_spec()).await;
    let worker = rig.worker().await;
    let id = worker.current().identity().node_id.clone();
    let mut client = Client::new(rig.connect(&worker).await);
    let (mut stream, first) = open(&mut client, "").await;
    assert_eq!(first.session_id.len(), 25);
    let node = first.node.unwrap();
    assert_eq!(node.id, id.as_str());
    assert_eq!(node.description.unwrap().hostname, "agent");
    assert_eq!(node.status.unwrap().state, i32::from(v1::node_status::State::Ready));
    assert_eq!(first.managers.len(), 1);
    assert_eq!(
        (first.managers[0].weight, &first.managers[0].peer.as_ref().unwrap().addr),
        (10, &rig.addr)
    );
    assert_eq!(first.network_bootstrap_keys.len(), 6);
    assert_eq!(first.root_ca, worker.current().trust().pem());

    let beat = |session: &str| v1::HeartbeatRequest { session_id: session.to_owned() };
    let period =
        client.heartbeat(beat(&first.session_id)).await.unwrap().into_inner().period.unwrap();
    let period = std::time::Duration::try_from(period).unwrap();
    assert!((900..=1100).contains(&period.as_millis()), "five beats in 5 s, spread: {period:?}");
    assert_eq!(client.heartbeat(beat("other")).await.unwrap_err().code(), Code::InvalidArgument);
    let second = rig.worker().await;
    let mut stranger = Client::new(rig.connect(&second).await);
    assert_eq!(stranger.heartbeat(beat("x")).await.unwrap_err().code(), Code::NotFound);

    // A change of the node is told.
    let node = rig.control().get_node(id.as_str()).await.unwrap();
    let mut spec = node.spec.clone();
    spec.annotations.labels.insert("disk".to_owned(), "fast".to_owned());
    rig.control().update_node(id.as_str(), node.meta.version, spec).await.unwrap();
    loop {
        let next = stream.message().await.unwrap().unwrap();
        assert_eq!(next.session_id, first.session_id);
        let labels = next.node.unwrap().spec.unwrap().annotations.unwrap().labels;
        if labels.get("disk").is_some_and(|value| value == "fast") {
            break;
        }
    }

    // New network keys are told: one of each kind replaces the oldest.
    let lamports = |keys: &[v1::EncryptionKey]| -> BTreeSet<u64> {
        keys.iter().map(|key| key.lamport_time).collect()
    };
    let old = lamports(&first.network_bootstrap_keys);
    let mut rng = |out: &mut [u8]| out.fill(7);
    let store = rig.manager.read();
    let turn = skep_control::admission::rotate_network_keys(&store, crate::rig::now(), &mut rng);
    rig.manager.propose(turn).await.unwrap();
    loop {
        let next = stream.message().await.unwrap().unwrap();
        let new = lamports(&next.network_bootstrap_keys);
        if new != old {
            assert_eq!((new.len(), new.intersection(&old).count()), (6, 4));
            assert!(new.last() > old.last(), "{new:?} after {old:?}");
            break;
        }
    }

    // The same id goes on; a new one ends the old stream.
    let (mut again, same) = open(&mut client, &first.session_id).await;
    assert_eq!(same.session_id, first.session_id);
    let (_newest, other) = open(&mut client, "").await;
    assert_ne!(other.session_id, first.session_id);
    let ended = loop {
        if let Err(status) = again.message().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::InvalidArgument);

    // Registering again and again has to wait.
    open(&mut client, "").await;
    let refused = client.session(v1::SessionRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    rig.manager.stop().await;
}

#[tokio::test]
async fn a_silent_node_goes_down_and_comes_back() {
    let rig = Rig::new(fast_heartbeat()).await;
    let worker = rig.worker().await;
    let id = worker.current().identity().node_id.clone();
    let mut client = Client::new(rig.connect(&worker).await);
    let (mut stream, first) = open(&mut client, "").await;
    let down = until("the node is down", || async {
        let node = rig.control().get_node(id.as_str()).await.unwrap();
        (node.status.state == NodeState::Down).then_some(node)
    })
    .await;
    assert_eq!(down.status.message, "heartbeat failure");
    while stream.message().await.is_ok() {}
    let beat = v1::HeartbeatRequest { session_id: first.session_id };
    assert_eq!(client.heartbeat(beat).await.unwrap_err().code(), Code::NotFound);
    let (_stream, next) = open(&mut client, "").await;
    assert_eq!(next.node.unwrap().status.unwrap().state, i32::from(v1::node_status::State::Ready));
    rig.manager.stop().await;
}

#[tokio::test]
async fn assignments_come_whole_then_as_differences() {
    let rig = Rig::new(default_spec()).await;
    let control = rig.control();
    let worker = rig.worker().await;
    let mut client = Client::new(rig.connect(&worker).await);
    let (_session, first) = open(&mut client, "").await;
    let session = first.session_id;
    let ask = v1::AssignmentsRequest { session_id: session.clone() };
    let mut stream = client.assignments(ask).await.unwrap().into_inner();
    let whole = stream.message().await.unwrap().unwrap();
    assert_eq!(whole.r#type, i32::from(Type::Complete));
    assert_eq!((whole.applies_to.as_str(), whole.results_in.as_str()), ("", "1"));
    assert!(whole.changes.is_empty());

    let secret = SecretSpec {
        annotations: Annotations { name: "key".to_owned(), ..Annotations::default() },
        data: Bytes64(b"hidden".to_vec()),
        ..SecretSpec::default()
    };
    let secret = control.create_secret(secret).await.unwrap();
    assert!(secret.spec.data.0.is_empty(), "the API does not show it");
    let spec = service("web", Some((secret.id.as_str(), "key")));
    control.create_service(spec).await.unwrap();
    let next = stream.message().await.unwrap().unwrap();
    assert_eq!(next.r#type, i32::from(Type::Incremental));
    assert_eq!((next.applies_to.as_str(), next.results_in.as_str()), ("1", "2"));
    let items: Vec<Item> =
        next.changes.into_iter().map(|c| c.assignment.unwrap().item.unwrap()).collect();
    let task = match items.as_slice() {
        [Item::Secret(secret), Item::Task(task)] => {
            assert_eq!(secret.spec.as_ref().unwrap().data, b"hidden");
            task.clone()
        }
        other => panic!("{other:?}"),
    };

    // Reported states are stored, never go back, and are not sent back.
    client.update_task_status(report(&session, &task.id, TaskState::Running)).await.unwrap();
    let state = |wanted: TaskState| {
        let (control, id) = (control.clone(), task.id.clone());
        async move {
            until("the task's state is stored", || async {
                let task = control.get_task(&id).await.unwrap();
                (task.status.state == wanted).then_some(task)
            })
            .await
        }
    };
    let stored = state(TaskState::Running).await;
    assert!(stored.status.applied_at.is_some());
    client.update_task_status(report(&session, &task.id, TaskState::Starting)).await.unwrap();
    client.update_task_status(report(&session, &task.id, TaskState::Failed)).await.unwrap();
    state(TaskState::Failed).await;

    // Another node may not speak for it.
    let second = rig.worker().await;
    let mut other = Client::new(rig.connect(&second).await);
    let (_other_session, opened) = open(&mut other, "").await;
    let refused =
        other.update_task_status(report(&opened.session_id, &task.id, TaskState::Failed)).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let unknown =
        other.update_task_status(report(&opened.session_id, "nothing", TaskState::Failed)).await;
    assert!(unknown.is_ok(), "reports on forgotten tasks are ignored");

    rig.manager.stop().await;
    // The streams end with the manager.
    while let Ok(Some(_)) = stream.message().await {}
}

/// A removed node knows the networks' keys: they all change, one turn at a time, so that nodes can
/// follow.
#[tokio::test]
async fn no_key_that_a_removed_node_knows_stays() {
    // This node does not beat.
    let mut spec = default_spec();
    spec.dispatcher.heartbeat_period = Nanos::from_secs(60);
    let rig = Rig::new(spec).await;
    let (out, stays) = (rig.worker().await, rig.worker().await);
    let mut client = Client::new(rig.connect(&stays).await);
    let (mut stream, first) = open(&mut client, "").await;
    let ring = |message: &v1::SessionMessage| -> BTreeSet<Vec<u8>> {
        message.network_bootstrap_keys.iter().map(|key| key.key.clone()).collect()
    };
    let known = ring(&first);
    assert_eq!(known.len(), 6);
    let id = out.current().identity().node_id.clone();
    rig.control().remove_node(id.as_str(), true).await.unwrap();
    let mut held = known.clone();
    while !held.is_disjoint(&known) {
        let message = tokio::time::timeout(LIMIT, stream.message()).await.unwrap();
        let next = ring(&message.unwrap().unwrap());
        let common = next.intersection(&held).count();
        assert!(next.len() == 6 && common >= 4, "one turn at a time: {common} of 6 stay");
        held = next;
    }
    rig.manager.stop().await;
}

#[tokio::test]
async fn a_leader_does_not_count_its_own_node_silent_before_its_agent_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, addr) = found(dir.path(), fast_heartbeat()).await;
    let token = manager.control().join_tokens().await.unwrap().worker.parse().unwrap();
    let joined = skep_pki::join(&[addr], &token, skep_types::NodeAvailability::Active).await;
    let other = joined.unwrap().identity().node_id.clone();
    let own = manager.members()[0].0.clone();
    manager.stop().await;

    let manager = resume(dir.path()).await;
    let state = |id: &skep_types::NodeId| manager.read().node(id).map(|node| node.status.state);
    let down = async |id| {
        until("a silent node is down", async || (state(id) == Some(NodeState::Down)).then_some(()))
            .await
    };
    // Both were expected since the same moment, as far as anybody was.
    down(&other).await;
    assert_eq!(state(&own), Some(NodeState::Unknown));
    manager.agent_started();
    down(&own).await;
    manager.stop().await;
}
