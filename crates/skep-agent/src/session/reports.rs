use std::convert::Infallible;

use skep_proto::v1::UpdateTaskStatusRequest;
use skep_proto::v1::update_task_status_request::TaskStatusUpdate;
use tonic::Code;

use super::Dispatcher;
use super::error::{SessionError, timed};
use crate::board::{Board, Report};

/// Statuses in one call; far below the size that a manager accepts.
const BATCH: usize = 500;

/// Reports every task's last status, then each change.
///
/// What fails stays on the board for the next session.
pub(super) async fn send(
    mut dispatcher: Dispatcher,
    session_id: &str,
    board: &Board,
) -> Result<Infallible, SessionError> {
    board.forget_confirmations();
    loop {
        let batch = board.unconfirmed(BATCH);
        if batch.is_empty() {
            board.changed().await;
            continue;
        }
        match send_batch(&mut dispatcher, session_id, &batch).await {
            Ok(()) => batch.iter().for_each(|report| board.confirm(report)),
            // One task of another node spoils the whole call; find it.
            Err(error) if is_refusal(&error) => {
                for report in &batch {
                    send_alone(&mut dispatcher, session_id, report).await?;
                    board.confirm(report);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn send_alone(
    dispatcher: &mut Dispatcher,
    session_id: &str,
    report: &Report,
) -> Result<(), SessionError> {
    match send_batch(dispatcher, session_id, std::slice::from_ref(report)).await {
        Err(error) if is_refusal(&error) => {
            tracing::warn!(task = %report.task, "the manager says that this task is not ours");
            Ok(())
        }
        done => done,
    }
}

async fn send_batch(
    dispatcher: &mut Dispatcher,
    session_id: &str,
    batch: &[Report],
) -> Result<(), SessionError> {
    let updates = batch
        .iter()
        .map(|report| TaskStatusUpdate {
            task_id: report.task.to_string(),
            status: Some((&report.status).into()),
        })
        .collect();
    let request = UpdateTaskStatusRequest { session_id: session_id.to_owned(), updates };
    timed("UpdateTaskStatus", dispatcher.update_task_status(request)).await.map(drop)
}

fn is_refusal(error: &SessionError) -> bool {
    matches!(error, SessionError::Call { source, .. } if source.code() == Code::PermissionDenied)
}
