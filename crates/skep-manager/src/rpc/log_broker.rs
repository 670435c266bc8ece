use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use skep_proto::v1;
use skep_types::NodeId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::status;
use crate::auth::{Allowed, caller};
use crate::logs::Delivery;
use crate::logs::Selector;
use crate::shared::Shared;

const BACKLOG: usize = 16;

/// Log questions to agents, and their lines; and questions of other managers' doors.
#[derive(Clone)]
pub(super) struct Logs(pub Arc<Shared>);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::log_broker_server::LogBroker for Logs {
    type ListenSubscriptionsStream = Out<v1::SubscriptionMessage>;

    async fn listen_subscriptions(
        &self,
        request: Request<v1::ListenSubscriptionsRequest>,
    ) -> Result<Response<Self::ListenSubscriptionsStream>, Status> {
        let node = caller(&self.0, &request, Allowed::WorkersAndManagers)?.node_id;
        let mut questions = self.0.logs.listen(&self.0.cell, &node);
        let stop = self.0.stop.clone();
        let (messages, stream) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = messages.closed() => return,
                    question = questions.next() => {
                        let Some(question) = question else { return };
                        if messages.send(Ok(question)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<v1::PublishLogsMessage>>,
    ) -> Result<Response<v1::PublishLogsResponse>, Status> {
        let node = caller(&self.0, &request, Allowed::WorkersAndManagers)?.node_id;
        let mut stream = request.into_inner();
        let mut publishing = Publishing { shared: self.0.clone(), node, id: None, closed: false };
        loop {
            let message = tokio::select! {
                () = self.0.stop.cancelled() => return Err(Status::aborted("this manager is stopping")),
                message = stream.message() => message?,
            };
            let Some(message) = message else { break };
            publishing.take(message).await?;
        }
        Ok(Response::new(v1::PublishLogsResponse {}))
    }
}

/// One node's answer to one question. However it ends, the subscriber is told.
struct Publishing {
    shared: Arc<Shared>,
    node: NodeId,
    id: Option<String>,
    closed: bool,
}

impl Publishing {
    async fn take(&mut self, message: v1::PublishLogsMessage) -> Result<(), Status> {
        if message.subscription_id.is_empty() {
            return Err(Status::invalid_argument("missing log subscription id"));
        }
        let id = self.id.get_or_insert_with(|| message.subscription_id.clone()).clone();
        if id != message.subscription_id {
            return Err(Status::invalid_argument(
                "one stream can answer one log subscription only",
            ));
        }
        if !self.shared.logs.knows(&id) {
            return Err(status::publish(crate::logs::PublishError::Unknown));
        }
        if message.close {
            self.closed = true;
            self.shared.logs.finished(&id, &self.node, None);
            return Ok(());
        }
        let foreign = |line: &v1::LogMessage| {
            line.context.as_ref().is_none_or(|context| context.node_id != self.node.as_str())
        };
        if message.messages.iter().any(foreign) {
            return Err(Status::permission_denied("a log line names another node"));
        }
        self.shared.logs.publish(&id, message.messages).await.map_err(status::publish)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if let (Some(id), false) = (&self.id, self.closed) {
            let problem = format!("node {} disconnected unexpectedly", self.node);
            self.shared.logs.finished(id, &self.node, Some(problem));
        }
    }
}

#[tonic::async_trait]
impl v1::logs_server::Logs for Logs {
    type SubscribeLogsStream = Out<v1::SubscribeLogsMessage>;

    async fn subscribe_logs(
        &self,
        request: Request<v1::SubscribeLogsRequest>,
    ) -> Result<Response<Self::SubscribeLogsStream>, Status> {
        caller(&self.0, &request, Allowed::Managers)?;
        let request = request.into_inner();
        let selector = request.selector.unwrap_or_default();
        let selector = Selector {
            services: selector.service_ids.into_iter().map(Into::into).collect(),
            nodes: selector.node_ids.into_iter().map(Into::into).collect(),
            tasks: selector.task_ids.into_iter().map(Into::into).collect(),
        };
        let options = request.options.unwrap_or_default();
        let source = self.0.logs.subscribe(&self.0.cell, selector, options);
        let stream = futures::stream::unfold(source, |mut source| async move {
            let item = match source.next().await? {
                Delivery::Messages(messages) => Ok(v1::SubscribeLogsMessage { messages }),
                Delivery::Incomplete(text) => Err(Status::unavailable(text)),
            };
            Some((item, source))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
