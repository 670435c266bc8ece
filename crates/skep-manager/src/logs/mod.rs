//! Logs of services and tasks: from a subscriber's question to the agents that have the answer, and
//! their lines back.

mod broker;
mod selector;
mod subscription;

pub(crate) use broker::{LogBroker, LogSource, PublishError};
pub(crate) use selector::Selector;
pub(crate) use subscription::Delivery;
