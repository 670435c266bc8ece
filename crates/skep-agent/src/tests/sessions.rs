//! Sessions over real connections, with a manager that misbehaves.

use std::sync::Arc;
use std::time::Duration;

use skep_pki::TlsHandle;
use skep_proto::removed_from_swarm;
use skep_proto::v1::assignment::Item;
use skep_proto::v1::assignment_change::AssignmentAction;
use skep_proto::v1::assignments_message::Type;
use skep_proto::v1::{Assignment, AssignmentChange, AssignmentsMessage, EncryptionKey, Node};
use skep_types::{NodeRole, Task, TaskState};
use tonic::Status;

use super::fake::{FakeExecutor, container_task};
use super::manager::{Swarm, TestManager, weighted};
use super::until;
use crate::{Agent, AgentConfig, Link};

pub(super) struct Rig {
    pub swarm: Swarm,
    pub manager: TestManager,
    pub executor: FakeExecutor,
    pub tls: TlsHandle,
    pub agent: Agent,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start(first: Vec<AssignmentsMessage>) -> Self {
        let swarm = Swarm::new();
        let manager = TestManager::start(&swarm, "manager").await;
        manager.record().first_assignments = first;
        let executor = FakeExecutor::default();
        executor.change(|state| state.description.hostname = "host1".to_owned());
        let tls = TlsHandle::new(swarm.issue("node", NodeRole::Worker));
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent::start(AgentConfig {
            managers: vec![manager.address.clone()],
            tls: tls.clone(),
            executor: Arc::new(executor.clone()),
            state_dir: folder.path().join("agent"),
        })
        .await
        .unwrap();
        Self { swarm, manager, executor, tls, agent, _folder: folder }
    }

    pub(super) async fn reported(&self, task: &str, state: TaskState) {
        let wanted = (task.to_owned(), state);
        until(
            &format!("{task} reported {state}"),
            || self.manager.record().statuses.contains(&wanted).then_some(()),
            || format!("{:?}, link {:?}", self.manager.record().statuses, self.agent.link()),
        )
        .await;
    }

    async fn sessions(&self, count: usize) {
        until(
            &format!("{count} sessions"),
            || (self.manager.record().sessions.len() >= count).then_some(()),
            || format!("{:?}", self.agent.link()),
        )
        .await;
    }
}

pub(super) fn complete(tasks: &[Task]) -> AssignmentsMessage {
    message(Type::Complete, "", "1", tasks)
}

fn message(kind: Type, applies_to: &str, results_in: &str, tasks: &[Task]) -> AssignmentsMessage {
    AssignmentsMessage {
        r#type: kind.into(),
        applies_to: applies_to.to_owned(),
        results_in: results_in.to_owned(),
        changes: tasks.iter().map(|task| change(task, AssignmentAction::Update)).collect(),
    }
}

fn change(task: &Task, action: AssignmentAction) -> AssignmentChange {
    AssignmentChange {
        assignment: Some(Assignment { item: Some(Item::Task(task.into())) }),
        action: action.into(),
    }
}

fn running(id: &str) -> Task {
    container_task(id, TaskState::Running)
}

#[tokio::test]
async fn a_session_brings_the_node_and_its_tasks_and_takes_reports() {
    let rig = Rig::start(vec![complete(&[running("t")])]).await;
    let mut node = rig.agent.node();
    node.wait_for(Option::is_some).await.unwrap();
    let view = node.borrow().clone().unwrap();
    assert_eq!(view.node.vxlan_udp_port, 4789);
    assert_eq!(view.managers, std::slice::from_ref(&rig.manager.address));
    assert_eq!(view.root_pem, rig.swarm.trust.pem());
    rig.reported("t", TaskState::Running).await;
    let link = rig.agent.link();
    assert_eq!(*link.borrow(), Link::Up { manager: rig.manager.address.clone() });

    let first = rig.manager.record().sessions[0].clone();
    let description = first.description.unwrap();
    assert_eq!(description.hostname, "host1");
    assert_eq!(description.tls_info.unwrap().trust_root, rig.swarm.trust.pem());
    assert_eq!(first.session_id, "");
    assert_eq!(rig.manager.record().callers, ["node"]);
    until("heartbeats", || (rig.manager.record().heartbeats > 2).then_some(()), String::new).await;

    rig.manager.assign(&message(Type::Incremental, "1", "2", &[running("u")]));
    rig.reported("u", TaskState::Running).await;
    let gone = AssignmentsMessage {
        changes: vec![change(
            &Task { id: "t".into(), ..Task::default() },
            AssignmentAction::Remove,
        )],
        ..message(Type::Incremental, "2", "3", &[])
    };
    rig.manager.assign(&gone);
    until("t removed", || (rig.executor.count("remove t") == 1).then_some(()), String::new).await;
    assert_eq!(rig.manager.record().sessions.len(), 1);
    rig.agent.shutdown().await;
    assert!(rig.executor.state().containers["u"].exit.is_none());
}

#[tokio::test]
async fn a_node_beats_while_its_containers_are_taken_over_and_says_nothing_of_tasks() {
    let rig = Rig::start(vec![complete(&[])]).await;
    rig.executor.change(|state| state.held = vec!["controller t".into(), "controller u".into()]);
    let opened = || (rig.manager.record().assignments_opened > 0).then_some(());
    until("an assignment", opened, String::new).await;
    rig.manager.assign(&message(Type::Incremental, "1", "2", &[running("t"), running("u")]));
    let before = rig.manager.record().heartbeats;
    let beats = || rig.manager.record().heartbeats - before;
    until("heartbeats", || (beats() > 3).then_some(()), || beats().to_string()).await;
    assert_eq!(rig.manager.record().statuses, []);
    assert_eq!(rig.executor.calls(), <[String; 0]>::default());
    rig.executor.change(|state| state.held.retain(|call| call != "controller t"));
    rig.reported("t", TaskState::Running).await;
    // One that still waits does not hold up the end.
    rig.agent.shutdown().await;
    assert_eq!(rig.executor.count("prepare u"), 0);
}

#[tokio::test]
async fn the_executor_follows_node_and_keys() {
    let rig = Rig::start(vec![complete(&[])]).await;
    rig.executor.fail_next("configure", crate::ExecError::refused("not now"));
    let key = |time| EncryptionKey {
        subsystem: "networking:gossip".to_owned(),
        key: vec![7; 16],
        lamport_time: time,
        ..Default::default()
    };
    rig.manager.say(|message| {
        message.network_bootstrap_keys = vec![key(1), key(2), key(3)];
        message.node.get_or_insert_with(Node::default).vxlan_udp_port = 4790;
    });
    let port = || rig.executor.state().configured.last().map(|node| node.vxlan_udp_port);
    until("port", || (port() == Some(4790)).then_some(()), || format!("{:?}", port())).await;
    rig.manager.say(|message| message.network_bootstrap_keys.rotate_left(1));
    rig.manager.say(|message| {
        message.node.get_or_insert_with(Node::default).vxlan_udp_port = 4791;
    });
    until("port", || (port() == Some(4791)).then_some(()), || format!("{:?}", port())).await;
    let times: Vec<Vec<u64>> = rig
        .executor
        .state()
        .keys
        .iter()
        .map(|keys| keys.iter().map(|key| key.lamport_time).collect())
        .collect();
    assert_eq!(times, [[1, 2, 3]], "another order is no news");
}

#[tokio::test]
async fn a_status_is_not_lost_when_reporting_fails() {
    let rig = Rig::start(vec![complete(&[running("t")])]).await;
    rig.reported("t", TaskState::Running).await;
    rig.manager.record().refuse_updates = vec![Status::unavailable("no leader"); 2];
    rig.executor.exit("t", 5);
    rig.reported("t", TaskState::Failed).await;
    assert!(rig.manager.record().sessions.len() >= 3);
}

#[tokio::test]
async fn a_new_session_reports_everything_again() {
    let rig = Rig::start(vec![complete(&[running("t"), running("u")])]).await;
    rig.reported("t", TaskState::Running).await;
    rig.reported("u", TaskState::Running).await;
    {
        let mut record = rig.manager.record();
        record.statuses.clear();
        record.refuse_heartbeats = vec![Status::invalid_argument("session invalid")];
    }
    rig.sessions(2).await;
    rig.reported("t", TaskState::Running).await;
    rig.reported("u", TaskState::Running).await;
    assert_eq!(rig.manager.record().sessions[1].session_id, "session0");
    assert_eq!(rig.executor.count("prepare t"), 1, "the task itself noticed nothing");
}

#[tokio::test]
async fn a_task_of_another_node_does_not_hold_up_the_others() {
    let rig = Rig::start(vec![complete(&[])]).await;
    rig.manager.record().foreign = vec!["foreign".to_owned()];
    rig.manager.assign(&message(Type::Incremental, "1", "2", &[]));
    rig.sessions(1).await;
    rig.manager.record().first_assignments = vec![complete(&[running("foreign"), running("t")])];
    rig.manager.record().refuse_heartbeats = vec![Status::not_found("node not registered")];
    rig.reported("t", TaskState::Running).await;
}

#[tokio::test]
async fn a_missed_assignment_asks_for_all_of_them() {
    let rig = Rig::start(vec![complete(&[running("t")])]).await;
    rig.reported("t", TaskState::Running).await;
    rig.manager.record().first_assignments = vec![complete(&[running("t"), running("u")])];
    rig.manager.assign(&message(Type::Incremental, "7", "8", &[running("never")]));
    rig.reported("u", TaskState::Running).await;
    assert_eq!(rig.manager.record().assignments_opened, 2);
    assert_eq!(rig.manager.record().sessions.len(), 1);
    assert_eq!(rig.executor.count("prepare never"), 0);
}

#[tokio::test]
async fn a_new_certificate_means_a_new_session_with_the_same_id() {
    let rig = Rig::start(vec![complete(&[])]).await;
    rig.sessions(1).await;
    let mut link = rig.agent.link();
    link.wait_for(|link| matches!(link, Link::Up { .. })).await.unwrap();
    rig.tls.replace(rig.swarm.issue("node", NodeRole::Manager));
    rig.sessions(2).await;
    assert_eq!(rig.manager.record().sessions[1].session_id, "session0");
}

#[tokio::test]
async fn another_manager_takes_over() {
    let rig = Rig::start(vec![complete(&[running("t")])]).await;
    rig.reported("t", TaskState::Running).await;
    let second = TestManager::start(&rig.swarm, "second").await;
    second.record().first_assignments = vec![complete(&[running("t"), running("u")])];
    let addresses = [weighted(&rig.manager.address), weighted(&second.address)];
    rig.manager.say(|message| message.managers = addresses.to_vec());
    let mut node = rig.agent.node();
    node.wait_for(|view| view.as_ref().is_some_and(|view| view.managers.len() == 2)).await.unwrap();
    rig.manager.kill();
    until(
        "u reported to the second manager",
        || second.record().statuses.contains(&("u".to_owned(), TaskState::Running)).then_some(()),
        || format!("{:?}", rig.agent.link()),
    )
    .await;
    assert_eq!(rig.executor.count("shutdown t"), 0);
}

#[tokio::test]
async fn tasks_go_on_without_any_manager() {
    let rig = Rig::start(vec![complete(&[running("t")])]).await;
    rig.reported("t", TaskState::Running).await;
    rig.manager.kill();
    let mut link = rig.agent.link();
    link.wait_for(|link| matches!(link, Link::Down { .. })).await.unwrap();
    rig.executor.exit("t", 0);
    tokio::time::timeout(Duration::from_secs(10), rig.agent.shutdown()).await.unwrap();
    assert!(rig.executor.count("shutdown t") == 0 && rig.executor.count("close t") == 1);
}

#[tokio::test]
async fn only_who_was_removed_gives_up_its_tasks() {
    let rig = Rig::start(vec![complete(&[running("t")])]).await;
    rig.reported("t", TaskState::Running).await;
    let removed = || Status::permission_denied(removed_from_swarm(&"node".into()));
    let link = rig.agent.link();
    // Refusals for other reasons, and the right one once.
    let others = [
        "the certificate is of another swarm: x",
        "node other was removed from the swarm",
        "this call needs a node certificate",
    ];
    let others = others.map(Status::permission_denied);
    rig.manager.refuse(others.into_iter().chain([removed()]).collect());
    rig.sessions(2).await;
    assert!(rig.manager.record().refuse_sessions.is_empty());
    assert_eq!(rig.executor.count("shutdown t") + rig.executor.count("remove t"), 0);

    rig.manager.refuse(vec![removed(); 2]);
    until(
        "t removed",
        || (rig.executor.count("remove t") == 1).then_some(()),
        || format!("{:?}", link.borrow()),
    )
    .await;
}
