use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_types::{TaskId, TaskStatus};
use tokio::sync::Notify;

/// The last status of every task, and which of them the manager has not confirmed.
///
/// A status stays here until its task is gone, so that none is lost when sending fails, and a new
/// session can report all of them.
#[derive(Debug, Default)]
pub(crate) struct Board {
    entries: Mutex<BTreeMap<TaskId, Entry>>,
    changed: Notify,
}

#[derive(Debug)]
struct Entry {
    status: TaskStatus,
    /// Counts statuses of this task, so that confirming one does not confirm the next.
    number: u64,
    confirmed: bool,
}

/// A status on its way to the manager.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub task: TaskId,
    pub status: TaskStatus,
    number: u64,
}

impl Board {
    /// Puts up a task's newest status.
    pub(crate) fn set(&self, task: TaskId, status: TaskStatus) {
        let mut entries = self.lock();
        let number = entries.get(&task).map_or(0, |entry| entry.number + 1);
        entries.insert(task, Entry { status, number, confirmed: false });
        drop(entries);
        self.changed.notify_one();
    }

    /// The task is gone; nobody needs its status any more.
    pub(crate) fn remove(&self, task: &TaskId) {
        self.lock().remove(task);
    }

    /// Everything must be reported again, as to a new manager.
    pub(crate) fn forget_confirmations(&self) {
        for entry in self.lock().values_mut() {
            entry.confirmed = false;
        }
        self.changed.notify_one();
    }

    /// Up to `limit` statuses that are not confirmed.
    pub(crate) fn unconfirmed(&self, limit: usize) -> Vec<Report> {
        let entries = self.lock();
        let open = entries.iter().filter(|(_, entry)| !entry.confirmed).take(limit);
        open.map(|(task, entry)| Report {
            task: task.clone(),
            status: entry.status.clone(),
            number: entry.number,
        })
        .collect()
    }

    /// The manager has this one, or will never take it.
    pub(crate) fn confirm(&self, report: &Report) {
        if let Some(entry) = self.lock().get_mut(&report.task)
            && entry.number == report.number
        {
            entry.confirmed = true;
        }
    }

    /// Returns after a status has changed since the last time somebody waited.
    ///
    /// Cancel safe. For one waiter at a time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        // Every critical section leaves the map whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::TaskState;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus { state, ..TaskStatus::default() }
    }

    #[test]
    fn a_status_stays_until_confirmed() {
        let board = Board::default();
        board.set("t".into(), status(TaskState::Starting));
        let first = board.unconfirmed(10);
        assert_eq!(board.unconfirmed(10), first);
        board.confirm(&first[0]);
        assert!(board.unconfirmed(10).is_empty());
    }

    #[test]
    fn confirming_an_old_status_leaves_the_new_one_open() {
        let board = Board::default();
        board.set("t".into(), status(TaskState::Starting));
        let first = board.unconfirmed(10);
        board.set("t".into(), status(TaskState::Running));
        board.confirm(&first[0]);
        assert_eq!(board.unconfirmed(10)[0].status.state, TaskState::Running);
    }

    #[test]
    fn a_new_session_gets_everything_again() {
        let board = Board::default();
        board.set("a".into(), status(TaskState::Running));
        board.set("b".into(), status(TaskState::Failed));
        for report in board.unconfirmed(10) {
            board.confirm(&report);
        }
        board.forget_confirmations();
        assert_eq!(board.unconfirmed(10).len(), 2);
        assert_eq!(board.unconfirmed(1).len(), 1);
        board.remove(&"a".into());
        assert_eq!(board.unconfirmed(10).len(), 1);
    }
}
