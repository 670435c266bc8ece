//! Log subscriptions over real connections.

use skep_proto::v1::{LogSelector, LogSubscriptionOptions, SubscriptionMessage};
use skep_types::TaskState;

use super::fake::container_task;
use super::sessions::{Rig, complete};
use super::until;
use crate::Tail;

async fn rig() -> Rig {
    let tasks = [
        container_task("t", TaskState::Running),
        container_task("u", TaskState::Running),
        container_task("waiting", TaskState::Ready),
    ];
    let rig = Rig::start(vec![complete(&tasks)]).await;
    for task in ["t", "u"] {
        rig.reported(task, TaskState::Running).await;
    }
    until("subscriber", || rig.manager.has_subscriber().then_some(()), String::new).await;
    rig
}

fn subscription(selector: LogSelector, follow: bool, tail: i64) -> SubscriptionMessage {
    SubscriptionMessage {
        id: "sub".to_owned(),
        selector: Some(selector),
        options: Some(LogSubscriptionOptions { follow, tail, ..Default::default() }),
        close: false,
    }
}

/// The lines published so far, sorted, and whether the publisher has closed.
fn published(rig: &Rig) -> (Vec<String>, bool) {
    let record = rig.manager.record();
    let messages = record.published.iter().flat_map(|packet| &packet.messages);
    let mut lines: Vec<String> = messages
        .map(|message| {
            let context = message.context.as_ref().unwrap();
            let text = String::from_utf8_lossy(&message.data);
            format!("{}@{} {}", context.task_id, context.node_id, text.trim_end())
        })
        .collect();
    lines.sort();
    (lines, record.published.iter().any(|packet| packet.close))
}

const ALL: [&str; 4] =
    ["t@node first of t", "t@node second of t", "u@node first of u", "u@node second of u"];

#[tokio::test]
async fn logs_of_a_service_come_from_all_its_running_tasks_and_end() {
    let rig = rig().await;
    let selector = LogSelector { service_ids: vec!["service".to_owned()], ..Default::default() };
    rig.manager.subscribe(&subscription(selector, false, -11));
    until("close", || published(&rig).1.then_some(()), || format!("{:?}", published(&rig))).await;
    assert_eq!(published(&rig).0, ALL);
    assert!(rig.executor.state().log_options.iter().all(|o| o.tail == Tail::Last(10)));
}

#[tokio::test]
async fn one_task_can_be_chosen() {
    let rig = rig().await;
    let selector = LogSelector { task_ids: vec!["u".to_owned()], ..Default::default() };
    rig.manager.subscribe(&subscription(selector, false, 0));
    until("close", || published(&rig).1.then_some(()), || format!("{:?}", published(&rig))).await;
    assert_eq!(published(&rig).0, ALL[2..]);
}

#[tokio::test]
async fn following_goes_on_until_closed() {
    let rig = rig().await;
    let selector = LogSelector { node_ids: vec!["node".to_owned()], ..Default::default() };
    rig.manager.subscribe(&subscription(selector.clone(), true, 0));
    until(
        "lines",
        || (published(&rig).0 == ALL).then_some(()),
        || format!("{:?}", published(&rig)),
    )
    .await;
    assert!(!published(&rig).1);
    let close = SubscriptionMessage { close: true, ..subscription(selector, true, 0) };
    rig.manager.subscribe(&close);
    // The session goes on: another subscription is served.
    let selector = LogSelector { task_ids: vec!["t".to_owned()], ..Default::default() };
    rig.manager.subscribe(&SubscriptionMessage {
        id: "second".to_owned(),
        ..subscription(selector, false, 0)
    });
    until("close", || published(&rig).1.then_some(()), || format!("{:?}", published(&rig))).await;
    assert_eq!(rig.manager.record().sessions.len(), 1);
}
