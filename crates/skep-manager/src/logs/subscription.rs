use std::collections::BTreeSet;

use skep_proto::v1;
use skep_types::NodeId;
use tokio::sync::mpsc;

use super::Selector;

/// What a subscriber receives.
pub(crate) enum Delivery {
    Messages(Vec<v1::LogMessage>),
    /// Not everything could be had; the text says why.
    Incomplete(String),
}

/// One running question.
pub(super) struct Subscription {
    pub selector: Selector,
    pub options: v1::LogSubscriptionOptions,
    pub sink: mpsc::Sender<Delivery>,
    /// Nodes that were asked and have not finished.
    pub open: BTreeSet<NodeId>,
    /// Nodes that were ever asked.
    pub asked: BTreeSet<NodeId>,
    /// What went wrong so far.
    pub problems: Vec<String>,
}

impl Subscription {
    pub fn message(&self, id: &str, close: bool) -> v1::SubscriptionMessage {
        v1::SubscriptionMessage {
            id: id.to_owned(),
            selector: Some(v1::LogSelector::from(&self.selector)),
            options: Some(self.options.clone()),
            close,
        }
    }

    pub fn follows(&self) -> bool {
        self.options.follow
    }

    /// Nobody is left who could send something.
    pub fn is_done(&self) -> bool {
        !self.follows() && self.open.is_empty()
    }
}
