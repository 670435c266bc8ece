//! Logs that users ask a manager for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use skep_pki::Identity;
use skep_proto::MAX_RESPONSE_BYTES;
use skep_proto::v1::log_broker_client::LogBrokerClient;
use skep_proto::v1::{
    ListenSubscriptionsRequest, LogContext, LogMessage, LogSelector, PublishLogsMessage,
    SubscriptionMessage,
};
use skep_types::TaskState;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::LogOptions;
use crate::worker::{TaskRef, Worker};

/// Pause before listening again after the stream broke in a session that goes on.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// Messages read ahead of the connection.
const READ_AHEAD: usize = 64;

/// Messages in one packet, and the bytes after which a packet is full.
const PACKET_MESSAGES: usize = 64;
const PACKET_BYTES: usize = 256 << 10;

/// Logs must not crowd out a node's other traffic.
const BYTES_PER_SECOND: f64 = 10_000_000.0;

/// Serves log subscriptions for as long as it is polled; trouble with them ends no session.
pub(super) async fn serve(channel: Channel, worker: Arc<Worker>, identity: Identity) -> Infallible {
    let client = LogBrokerClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
    loop {
        match listen(&client, &worker, &identity).await {
            // A manager without log broker: nothing to serve.
            Err(status) if status.code() == Code::Unimplemented => std::future::pending().await,
            Err(status) => tracing::debug!(%status, "cannot listen for log subscriptions"),
            Ok(()) => tracing::debug!("the manager ended the stream of log subscriptions"),
        }
        tokio::time::sleep(LISTEN_PAUSE).await;
    }
}

async fn listen(
    client: &LogBrokerClient<Channel>,
    worker: &Arc<Worker>,
    identity: &Identity,
) -> Result<(), Status> {
    let answer = client.clone().listen_subscriptions(ListenSubscriptionsRequest {}).await?;
    let mut stream = answer.into_inner();
    let mut active: HashMap<String, AbortOnDropHandle<()>> = HashMap::new();
    while let Some(message) = stream.message().await? {
        active.retain(|_, publishing| !publishing.is_finished());
        if message.close {
            active.remove(&message.id);
            continue;
        }
        let id = message.id.clone();
        let publishing = publish(client.clone(), worker.clone(), identity.clone(), message);
        active.insert(id, AbortOnDropHandle::new(tokio::spawn(publishing)));
    }
    Ok(())
}

/// Sends the logs of the chosen tasks until they end, or the subscription is closed.
async fn publish(
    mut client: LogBrokerClient<Channel>,
    worker: Arc<Worker>,
    identity: Identity,
    subscription: SubscriptionMessage,
) {
    let id = subscription.id.clone();
    let (packets, stream) = mpsc::channel(1);
    let reading = read(worker, identity, subscription, packets);
    let sending = client.publish_logs(ReceiverStream::new(stream));
    let ((), answer) = tokio::join!(reading, sending);
    if let Err(status) = answer {
        tracing::debug!(subscription = id, %status, "cannot publish logs");
    }
}

/// Reads the logs of all chosen tasks side by side and packs them.
async fn read(
    worker: Arc<Worker>,
    identity: Identity,
    subscription: SubscriptionMessage,
    packets: mpsc::Sender<PublishLogsMessage>,
) {
    let id = subscription.id;
    let options = LogOptions::from(subscription.options.unwrap_or_default());
    let selector = subscription.selector.unwrap_or_default();
    let (messages, received) = mpsc::channel(READ_AHEAD);
    let reading = read_tasks(worker, identity, &selector, options, messages);
    // When the connection is gone, packing ends, and reading with it.
    tokio::select! {
        ((), ()) = async { tokio::join!(reading, pack(&id, received, &packets)) } => {}
        () = packets.closed() => return,
    }
    let last = PublishLogsMessage { subscription_id: id, messages: Vec::new(), close: true };
    // Nobody listening any more is no error.
    let _ = packets.send(last).await;
}

async fn read_tasks(
    worker: Arc<Worker>,
    identity: Identity,
    selector: &LogSelector,
    options: LogOptions,
    messages: mpsc::Sender<LogMessage>,
) {
    let mut arrivals = worker.arrivals();
    let mut seen = std::collections::BTreeSet::new();
    let mut reading = JoinSet::new();
    loop {
        arrivals.borrow_and_update();
        for task in worker.tasks() {
            if chosen(selector, &identity, &task) && seen.insert(task.task.id.clone()) {
                let (options, identity) = (options.clone(), identity.clone());
                reading.spawn(read_task(task, identity, options, messages.clone()));
            }
        }
        if !options.follow {
            while reading.join_next().await.is_some() {}
            return;
        }
        if arrivals.changed().await.is_err() {
            return;
        }
        while reading.try_join_next().is_some() {}
    }
}

fn chosen(selector: &LogSelector, identity: &Identity, task: &TaskRef) -> bool {
    let has = |ids: &[String], id: &str| ids.iter().any(|candidate| candidate == id);
    has(&selector.service_ids, task.task.service_id.as_str())
        || has(&selector.task_ids, task.task.id.as_str())
        || has(&selector.node_ids, identity.node_id.as_str())
}

/// Reads one task's log. Without `follow` a task that does not run yet has none.
async fn read_task(
    task: TaskRef,
    identity: Identity,
    options: LogOptions,
    messages: mpsc::Sender<LogMessage>,
) {
    if options.follow {
        let mut status = task.entry.status.subscribe();
        if status.wait_for(|status| status.state >= TaskState::Running).await.is_err() {
            return;
        }
    } else if task.entry.status.borrow().state < TaskState::Running {
        return;
    }
    let Some(controller) = task.entry.controller.get().cloned() else { return };
    let mut log = match controller.logs(&options).await {
        Ok(log) => log,
        Err(error) => {
            tracing::warn!(
                task = %task.task.id,
                error = skep_types::report(&error),
                "cannot read a log"
            );
            return;
        }
    };
    while let Some(record) = log.next().await {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(
                    task = %task.task.id,
                    error = skep_types::report(&error),
                    "a log ended early"
                );
                return;
            }
        };
        let context = LogContext {
            service_id: task.task.service_id.to_string(),
            node_id: identity.node_id.to_string(),
            task_id: task.task.id.to_string(),
        };
        if messages.send(record.into_message(context)).await.is_err() {
            return;
        }
    }
}

/// Packs messages as they come, no faster than the limit. Ends when there are no more.
async fn pack(
    id: &str,
    mut received: mpsc::Receiver<LogMessage>,
    packets: &mpsc::Sender<PublishLogsMessage>,
) {
    while let Some(first) = received.recv().await {
        let mut bytes = first.data.len();
        let mut messages = vec![first];
        while messages.len() < PACKET_MESSAGES && bytes < PACKET_BYTES {
            let Ok(next) = received.try_recv() else { break };
            bytes += next.data.len();
            messages.push(next);
        }
        let packet = PublishLogsMessage { subscription_id: id.to_owned(), messages, close: false };
        if packets.send(packet).await.is_err() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a packet is far below 2^53 bytes")]
        let time = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        if time >= Duration::from_millis(1) {
            tokio::time::sleep(time).await;
        }
    }
}
