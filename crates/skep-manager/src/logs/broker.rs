use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use skep_proto::v1;
use skep_types::NodeId;
use thiserror::Error;
use tokio::sync::mpsc;

use super::Selector;
use super::subscription::{Delivery, Subscription};
use crate::store::{StoreCell, Watched};

/// Messages of agents (each a batch of lines) that may wait for a slow subscriber; then agents wait.
const SINK: usize = 64;

/// Why published lines were not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum PublishError {
    /// The subscriber went away.
    #[error("no such log subscription")]
    Unknown,
}

/// Brings subscribers and agents together.
#[derive(Clone)]
pub(crate) struct LogBroker {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    subscriptions: BTreeMap<String, Subscription>,
    /// Agents that listen for questions. A new stream of an agent replaces its old one.
    listeners: HashMap<NodeId, Listener>,
    next_listener: u64,
}

struct Listener {
    number: u64,
    questions: mpsc::UnboundedSender<v1::SubscriptionMessage>,
}

/// A subscriber's end; dropping it closes the subscription at every agent.
pub(crate) struct LogSource {
    id: String,
    broker: Weak<Mutex<Inner>>,
    receiver: mpsc::Receiver<Delivery>,
}

/// An agent's end; dropping it forgets the agent.
pub(crate) struct Questions {
    node: NodeId,
    number: u64,
    broker: Weak<Mutex<Inner>>,
    receiver: mpsc::UnboundedReceiver<v1::SubscriptionMessage>,
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogBroker {
    pub fn new() -> Self {
        Self { inner: Arc::default() }
    }

    /// Asks every node that has a part of the answer. With `follow`, nodes that get a part later are
    /// asked when they do.
    pub fn subscribe(
        &self,
        cell: &StoreCell,
        selector: Selector,
        options: v1::LogSubscriptionOptions,
    ) -> LogSource {
        let id: String = crate::chance::id();
        let (sink, receiver) = mpsc::channel(SINK);
        let (store, mut watcher) = cell.watch();
        let follow = options.follow;
        let nodes = selector.nodes_with_tasks(&store, follow);
        let subscription = Subscription {
            selector: selector.clone(),
            options,
            sink,
            open: BTreeSet::new(),
            asked: BTreeSet::new(),
            problems: Vec::new(),
        };
        let mut inner = lock(&self.inner);
        inner.subscriptions.insert(id.clone(), subscription);
        inner.ask(&id, &nodes);
        inner.finish_if_done(&id);
        drop(inner);
        let source = LogSource { id: id.clone(), broker: Arc::downgrade(&self.inner), receiver };
        if follow {
            let (cell, broker) = (cell.clone(), Arc::downgrade(&self.inner));
            tokio::spawn(async move {
                while let Some(watched) = watcher.next().await {
                    let touches_tasks = match &watched {
                        Watched::Reread(_) => true,
                        Watched::Changes(changes) => changes
                            .list
                            .iter()
                            .any(|change| matches!(change.key(), skep_control::ObjectKey::Task(_))),
                    };
                    if !touches_tasks {
                        continue;
                    }
                    let Some(broker) = broker.upgrade() else { return };
                    let nodes = selector.nodes_with_tasks(&cell.read(), true);
                    let mut inner = lock(&broker);
                    if !inner.subscriptions.contains_key(&id) {
                        return;
                    }
                    inner.ask(&id, &nodes);
                }
            });
        }
        source
    }

    /// An agent listens; it is told of what is being asked already.
    pub fn listen(&self, cell: &StoreCell, node: &NodeId) -> Questions {
        let store = cell.read();
        let (questions, receiver) = mpsc::unbounded_channel();
        let mut inner = lock(&self.inner);
        inner.next_listener += 1;
        let number = inner.next_listener;
        inner.listeners.insert(node.clone(), Listener { number, questions });
        let waiting: Vec<String> = inner
            .subscriptions
            .iter()
            .filter(|(_, s)| s.selector.nodes_with_tasks(&store, s.follows()).contains(node))
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            // It may have been asked on an earlier stream; that answer is lost with it.
            if let Some(subscription) = inner.subscriptions.get_mut(&id) {
                subscription.asked.remove(node);
            }
            inner.ask(&id, &BTreeSet::from([node.clone()]));
        }
        Questions { node: node.clone(), number, broker: Arc::downgrade(&self.inner), receiver }
    }

    /// Passes lines on; waits while the subscriber is slow.
    pub async fn publish(
        &self,
        id: &str,
        messages: Vec<v1::LogMessage>,
    ) -> Result<(), PublishError> {
        let sink = {
            let inner = lock(&self.inner);
            inner.subscriptions.get(id).map(|s| s.sink.clone()).ok_or(PublishError::Unknown)?
        };
        sink.send(Delivery::Messages(messages)).await.map_err(|_| PublishError::Unknown)
    }

    /// A node is given up; nobody waits for its lines any more. It is asked again when it listens again.
    pub fn lost(&self, node: &NodeId) {
        let mut inner = lock(&self.inner);
        if let Some(number) = inner.listeners.get(node).map(|listener| listener.number) {
            inner.unlisten(node, number);
        }
    }

    pub fn knows(&self, id: &str) -> bool {
        lock(&self.inner).subscriptions.contains_key(id)
    }

    /// A node has sent all it has, or has failed to.
    pub fn finished(&self, id: &str, node: &NodeId, problem: Option<String>) {
        lock(&self.inner).finished(id, node, problem);
    }
}

impl Inner {
    /// Asks those of `nodes` that were not asked before.
    fn ask(&mut self, id: &str, nodes: &BTreeSet<NodeId>) {
        let Some(subscription) = self.subscriptions.get_mut(id) else { return };
        for node in nodes {
            if !subscription.asked.insert(node.clone()) {
                continue;
            }
            let question = subscription.message(id, false);
            let listener = self.listeners.get(node);
            if listener.is_some_and(|l| l.questions.send(question).is_ok()) {
                subscription.open.insert(node.clone());
            } else if subscription.follows() {
                // It is asked when it comes back.
                subscription.asked.remove(node);
            } else {
                subscription.problems.push(format!("node {node} is not available"));
            }
        }
    }

    fn finished(&mut self, id: &str, node: &NodeId, problem: Option<String>) {
        if let Some(subscription) = self.subscriptions.get_mut(id) {
            subscription.open.remove(node);
            subscription.problems.extend(problem);
        }
        self.finish_if_done(id);
    }

    /// Ends a subscription nobody will answer any more: dropping its sink ends the stream.
    fn finish_if_done(&mut self, id: &str) {
        if !self.subscriptions.get(id).is_some_and(Subscription::is_done) {
            return;
        }
        let Some(subscription) = self.subscriptions.remove(id) else { return };
        if !subscription.problems.is_empty() {
            let text = format!(
                "warning: incomplete log stream. some logs could not be retrieved for the following \
                 reasons: {}",
                subscription.problems.join(", ")
            );
            let sink = subscription.sink;
            // The sink may be full of lines; the note comes after them.
            tokio::spawn(async move { sink.send(Delivery::Incomplete(text)).await });
        }
    }

    fn close(&mut self, id: &str) {
        let Some(subscription) = self.subscriptions.remove(id) else { return };
        for node in &subscription.asked {
            if let Some(listener) = self.listeners.get(node) {
                // An agent that went away has nothing to close.
                let _ = listener.questions.send(subscription.message(id, true));
            }
        }
    }

    fn unlisten(&mut self, node: &NodeId, number: u64) {
        if self.listeners.get(node).is_none_or(|listener| listener.number != number) {
            return;
        }
        self.listeners.remove(node);
        let asked: Vec<String> = self
            .subscriptions
            .iter()
            .filter(|(_, s)| s.open.contains(node))
            .map(|(id, _)| id.clone())
            .collect();
        for id in asked {
            self.finished(&id, node, Some(format!("node {node} disconnected unexpectedly")));
        }
    }
}

impl LogSource {
    /// The next delivery; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }
}

impl Drop for LogSource {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.upgrade() {
            lock(&broker).close(&self.id);
        }
    }
}

impl Questions {
    /// The next question, or the end of one (`close`). Cancel safe.
    pub async fn next(&mut self) -> Option<v1::SubscriptionMessage> {
        self.receiver.recv().await
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.upgrade() {
            lock(&broker).unlisten(&self.node, self.number);
        }
    }
}
