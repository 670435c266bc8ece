use futures::stream;
use skep_proto::v1;
use skep_types::{ErrorKind, NodeId, ServiceId, StringMap, TaskId, Timestamp};

use super::{
    Control, ControlError, LogMessage, LogMessages, LogOptions, LogSelector, LogStream, Result,
    reference,
};
use crate::logs::{Delivery, LogSource, Selector};

impl Control {
    /// Subscribes to the logs of services or tasks on every node. Without `follow` the stream ends
    /// when every node has sent what it has; if a node could not, its last item is an error that says
    /// so.
    pub async fn logs(&self, selector: LogSelector, options: LogOptions) -> Result<LogMessages> {
        let shared = self.shared()?;
        let store = shared.cell.read();
        let services =
            selector.services.iter().map(|r| Ok(reference::service(&store, r)?.id.clone()));
        let tasks = selector.tasks.iter().map(|r| Ok(reference::task(&store, r)?.id.clone()));
        let nodes = selector.nodes.iter().map(|r| Ok(reference::node(&store, r)?.id.clone()));
        let selector = Selector {
            services: services.collect::<Result<_>>()?,
            tasks: tasks.collect::<Result<_>>()?,
            nodes: nodes.collect::<Result<_>>()?,
        };
        let source = shared.logs.subscribe(&shared.cell, selector, to_wire(&options)?);
        let state = (source, Vec::new().into_iter());
        Ok(Box::pin(stream::unfold(state, next)))
    }
}

type Pending = std::vec::IntoIter<v1::LogMessage>;

async fn next(
    (mut source, mut pending): (LogSource, Pending),
) -> Option<(Result<LogMessage>, (LogSource, Pending))> {
    loop {
        if let Some(message) = pending.next() {
            return Some((from_wire(message), (source, pending)));
        }
        match source.next().await? {
            Delivery::Messages(messages) => pending = messages.into_iter(),
            Delivery::Incomplete(text) => {
                let error = ControlError::new(ErrorKind::Unavailable, text);
                return Some((Err(error), (source, pending)));
            }
        }
    }
}

fn to_wire(options: &LogOptions) -> Result<v1::LogSubscriptionOptions> {
    let streams = options.streams.iter().map(|stream| match stream {
        LogStream::Stdout => v1::LogStream::Stdout.into(),
        LogStream::Stderr => v1::LogStream::Stderr.into(),
    });
    // 0 is everything, −n−1 the last n lines.
    let tail = match options.tail {
        None => 0,
        Some(lines) => i64::try_from(lines)
            .map(|lines| -lines - 1)
            .map_err(|_| ControlError::invalid(format!("invalid value for tail: {lines}")))?,
    };
    Ok(v1::LogSubscriptionOptions {
        streams: streams.collect(),
        follow: options.follow,
        tail,
        since: options.since.map(|since| prost_types::Timestamp {
            seconds: since.unix_secs(),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        }),
    })
}

fn from_wire(message: v1::LogMessage) -> Result<LogMessage> {
    let context = message.context.unwrap_or_default();
    let timestamp = message.timestamp.unwrap_or_default();
    let stream = match v1::LogStream::try_from(message.stream) {
        Ok(v1::LogStream::Stderr) => LogStream::Stderr,
        Ok(v1::LogStream::Stdout | v1::LogStream::Unknown) | Err(_) => LogStream::Stdout,
    };
    let timestamp = Timestamp::from_unix(timestamp.seconds, timestamp.nanos).ok_or_else(|| {
        ControlError::new(ErrorKind::System, "a node sent a log line from no possible time")
    })?;
    let attrs: StringMap = message.attrs.into_iter().map(|attr| (attr.key, attr.value)).collect();
    Ok(LogMessage {
        service_id: ServiceId::from(context.service_id),
        node_id: NodeId::from(context.node_id),
        task_id: TaskId::from(context.task_id),
        timestamp,
        stream,
        data: message.data,
        attrs,
    })
}
