use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1::assignment::Item;
use skep_proto::v1::assignment_change::AssignmentAction;
use skep_proto::v1::assignments_message::Type;
use skep_proto::v1::{Assignment, AssignmentChange, AssignmentsMessage, AssignmentsRequest};
use skep_types::{Config, Secret, Task, TaskId};

use super::Dispatcher;
use super::error::{SessionError, timed};
use crate::worker::{Change, Worker};
use skep_types::report;

/// Pause before the stream is opened again after a message that did not follow the one before.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

const CALL: &str = "Assignments";

/// Which message may come next on an assignments stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sequence {
    /// `results_in` of the last message; `None` before the first.
    last: Option<String>,
}

impl Sequence {
    /// Takes the next message. `None` if it does not follow the last one.
    fn accept(&mut self, message: &AssignmentsMessage) -> Option<Type> {
        let kind = Type::try_from(message.r#type).ok()?;
        let follows = match kind {
            Type::Complete => true,
            Type::Incremental => self.last.as_ref() == Some(&message.applies_to),
        };
        if !follows {
            return None;
        }
        self.last = Some(message.results_in.clone());
        Some(kind)
    }
}

/// Follows the assignments of a session and gives them to the worker.
pub(super) async fn follow(
    mut dispatcher: Dispatcher,
    session_id: &str,
    worker: &Arc<Worker>,
) -> Result<Infallible, SessionError> {
    loop {
        let request = AssignmentsRequest { session_id: session_id.to_owned() };
        let mut stream = timed(CALL, dispatcher.assignments(request)).await?.into_inner();
        let mut sequence = Sequence::default();
        loop {
            let message = stream.message().await.map_err(SessionError::call(CALL))?;
            let Some(message) = message else {
                return Err(SessionError::Ended { call: CALL });
            };
            let Some(kind) = sequence.accept(&message) else {
                tracing::warn!(
                    applies_to = message.applies_to,
                    last = sequence.last,
                    "an assignment was missed, asking for all of them"
                );
                break;
            };
            let changes: Vec<Change> = message.changes.into_iter().filter_map(decode).collect();
            tracing::debug!(?kind, changes = changes.len(), "assignments changed");
            match kind {
                Type::Complete => worker.replace(changes),
                Type::Incremental => worker.change(changes),
            }
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

/// One change, or `None` for what concerns nothing here (volumes of cluster drivers) or cannot be
/// understood; the latter is logged, and for a task becomes its refusal.
fn decode(change: AssignmentChange) -> Option<Change> {
    let Some(Assignment { item: Some(item) }) = change.assignment else {
        tracing::warn!("an assignment without an item");
        return None;
    };
    let Ok(action) = AssignmentAction::try_from(change.action) else {
        tracing::warn!(action = change.action, "an assignment with an unknown action");
        return None;
    };
    let remove = action == AssignmentAction::Remove;
    match item {
        Item::Task(task) if remove => Some(Change::RemoveTask(task.id.into())),
        Item::Task(task) => {
            let id = TaskId::new(task.id.clone());
            Some(match Task::try_from(task) {
                Ok(task) => Change::PutTask(Box::new(task)),
                Err(error) => Change::RefuseTask(id, report(&error)),
            })
        }
        Item::Secret(secret) if remove => Some(Change::RemoveSecret(secret.id.into())),
        Item::Secret(secret) => match Secret::try_from(secret) {
            Ok(secret) => Some(Change::PutSecret(Box::new(secret))),
            Err(error) => {
                tracing::error!(%error, "cannot understand a secret");
                None
            }
        },
        Item::Config(config) if remove => Some(Change::RemoveConfig(config.id.into())),
        Item::Config(config) => match Config::try_from(config) {
            Ok(config) => Some(Change::PutConfig(Box::new(config))),
            Err(error) => {
                tracing::error!(%error, "cannot understand a config");
                None
            }
        },
        Item::Volume(volume) => {
            tracing::debug!(volume = volume.id, "cluster volumes are not supported");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: Type, applies_to: &str, results_in: &str) -> AssignmentsMessage {
        AssignmentsMessage {
            r#type: kind.into(),
            applies_to: applies_to.to_owned(),
            results_in: results_in.to_owned(),
            changes: Vec::new(),
        }
    }

    #[test]
    fn increments_must_follow_each_other() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.accept(&message(Type::Incremental, "", "1")), None);
        assert_eq!(sequence.accept(&message(Type::Complete, "", "1")), Some(Type::Complete));
        let second = message(Type::Incremental, "1", "2");
        assert_eq!(sequence.accept(&second), Some(Type::Incremental));
        assert_eq!(sequence.accept(&second), None, "the same one twice");
        assert_eq!(sequence.accept(&message(Type::Incremental, "3", "4")), None);
    }

    #[test]
    fn a_task_that_cannot_be_understood_is_refused_by_id() {
        let task =
            skep_proto::v1::Task { id: "t".to_owned(), desired_state: 7, ..Default::default() };
        let change = AssignmentChange {
            assignment: Some(Assignment { item: Some(Item::Task(task)) }),
            action: AssignmentAction::Update.into(),
        };
        match decode(change) {
            Some(Change::RefuseTask(id, reason)) => {
                assert_eq!(id, "t".into());
                assert!(reason.contains("desired_state"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}
