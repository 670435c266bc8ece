//! Events: what happened, for `docker events`.
//!
//! A bounded backlog and a broadcast. A listener that falls behind misses the oldest and goes on.

mod filter;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bollard_stubs::models::{
    EventActor, EventMessage, EventMessageScopeEnum as Scope, EventMessageTypeEnum as Type,
};
use futures::StreamExt;
use tokio::sync::broadcast;

use crate::error::Result;
use crate::options::{BoxStream, EventsOptions};
use crate::util;

/// Events kept for `since`.
const BACKLOG: usize = 256;
/// Events a slow listener may be behind.
const LAG: usize = 256;

/// The engine's events.
#[derive(Debug)]
pub struct Bus {
    backlog: Mutex<VecDeque<EventMessage>>,
    sender: broadcast::Sender<EventMessage>,
}

impl Default for Bus {
    fn default() -> Self {
        Self { backlog: Mutex::default(), sender: broadcast::channel(LAG).0 }
    }
}

impl Bus {
    /// Tells everyone.
    pub fn publish(
        &self,
        typ: Type,
        action: &str,
        id: &str,
        attributes: HashMap<String, String>,
        scope: Scope,
    ) {
        let now = util::now();
        let message = EventMessage {
            typ: Some(typ),
            action: Some(action.to_owned()),
            actor: Some(EventActor { id: Some(id.to_owned()), attributes: Some(attributes) }),
            scope: Some(scope),
            time: Some(now.unix_timestamp()),
            time_nano: i64::try_from(now.unix_timestamp_nanos()).ok(),
        };
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if backlog.len() == BACKLOG {
            backlog.pop_front();
        }
        backlog.push_back(message.clone());
        // Sent under the lock, so that a new listener sees an event either in the backlog or live.
        // An error only says that nobody listens.
        let _ = self.sender.send(message);
    }

    /// Past events since `since`, then those that come, ending at `until`.
    ///
    /// # Errors
    /// `Invalid` for filters that events do not have.
    pub fn subscribe(&self, options: EventsOptions) -> Result<BoxStream<EventMessage>> {
        filter::validate(&options.filters)?;
        let nanos =
            |at: time::OffsetDateTime| i64::try_from(at.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        let until = options.until.map(nanos);
        let (past, receiver) = {
            let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
            let past: Vec<EventMessage> = match options.since.map(nanos) {
                None => Vec::new(),
                Some(since) => backlog
                    .iter()
                    .filter(|e| {
                        let at = e.time_nano.unwrap_or(0);
                        at >= since && until.is_none_or(|until| at <= until)
                    })
                    .cloned()
                    .collect(),
            };
            (past, self.sender.subscribe())
        };
        let live = futures::stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(message) => return Some((message, receiver)),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "a listener for events was too slow");
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let end = options.until;
        let live = live.take_until(async move {
            match end {
                None => std::future::pending().await,
                Some(end) => {
                    let left = end - util::now();
                    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
                }
            }
        });
        let filters = options.filters;
        let all = futures::stream::iter(past).chain(live);
        Ok(all
            .filter(move |event| futures::future::ready(filter::matches(&filters, event)))
            .boxed())
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::Filters;

    fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[tokio::test]
    async fn backlog_is_bounded_and_followed_by_live_events() {
        let bus = Bus::default();
        for n in 0..300 {
            bus.publish(Type::CONTAINER, "start", &n.to_string(), HashMap::new(), Scope::LOCAL);
        }
        let options =
            EventsOptions { since: Some(time::OffsetDateTime::UNIX_EPOCH), ..Default::default() };
        let mut stream = bus.subscribe(options).unwrap();
        bus.publish(Type::CONTAINER, "die", "last", HashMap::new(), Scope::LOCAL);
        let first = stream.next().await.unwrap();
        assert_eq!(first.actor.unwrap().id.as_deref(), Some("44"));
        let rest: Vec<_> = stream.take(256).collect().await;
        assert_eq!(rest.last().unwrap().action.as_deref(), Some("die"));
    }

    #[tokio::test]
    async fn filters() {
        let bus = Bus::default();
        let filters = Filters::new()
            .with("type", "container")
            .with("event", "exec_start")
            .with("label", "a=b");
        let options = EventsOptions {
            since: Some(time::OffsetDateTime::UNIX_EPOCH),
            until: Some(util::now() + time::Duration::milliseconds(200)),
            filters,
        };
        bus.publish(
            Type::CONTAINER,
            "exec_start: ls",
            "1",
            attributes(&[("a", "b")]),
            Scope::LOCAL,
        );
        bus.publish(Type::CONTAINER, "start", "2", attributes(&[("a", "b")]), Scope::LOCAL);
        bus.publish(Type::CONTAINER, "exec_start: ls", "3", HashMap::new(), Scope::LOCAL);
        bus.publish(Type::NETWORK, "exec_start", "4", attributes(&[("a", "b")]), Scope::LOCAL);
        let got: Vec<_> = bus.subscribe(options).unwrap().collect().await;
        assert_eq!(got.len(), 1);
        assert!(
            bus.subscribe(EventsOptions {
                filters: Filters::new().with("foo", "x"),
                ..Default::default()
            })
            .is_err()
        );
    }
}
