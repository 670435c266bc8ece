//! What is not on disk yet: at most one edit a task, however long the disk refuses writes.

use std::collections::{BTreeMap, BTreeSet};

use skep_types::{Task, TaskId, TaskStatus};

/// One task's way from what is on disk to what is so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Edit {
    /// First of all, forget what is on disk.
    pub forget: bool,
    pub task: Option<Box<Task>>,
    pub assigned: Option<bool>,
    pub status: Option<Box<TaskStatus>>,
}

impl Edit {
    /// This one, and then `later`.
    fn then(self, later: Self) -> Self {
        if later.forget {
            return later;
        }
        Self {
            forget: self.forget,
            task: later.task.or(self.task),
            assigned: later.assigned.or(self.assigned),
            status: later.status.or(self.status),
        }
    }
}

/// The edits that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    edits: BTreeMap<TaskId, Edit>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.edits.len()
    }

    pub(super) fn add(&mut self, id: TaskId, edit: Edit) {
        let before = self.edits.remove(&id).unwrap_or_default();
        self.edits.insert(id, before.then(edit));
    }

    /// All edits, to be written; those of tasks that came and went since are left out.
    pub(super) fn take(&mut self, on_disk: &BTreeSet<TaskId>) -> BTreeMap<TaskId, Edit> {
        let mut edits = std::mem::take(&mut self.edits);
        edits.retain(|id, edit| !edit.forget || edit.task.is_some() || on_disk.contains(id));
        edits
    }

    /// Puts back what could not be written: what was added since comes after it.
    pub(super) fn put_back(&mut self, failed: BTreeMap<TaskId, Edit>) {
        let newer = std::mem::replace(&mut self.edits, failed);
        for (id, edit) in newer {
            self.add(id, edit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str) -> Edit {
        let task = Task { id: id.into(), ..Task::default() };
        Edit { task: Some(Box::new(task)), assigned: Some(true), ..Edit::default() }
    }

    fn forget() -> Edit {
        Edit { forget: true, ..Edit::default() }
    }

    #[test]
    fn a_disk_that_refuses_writes_costs_one_edit_a_task() {
        let mut pending = Pending::default();
        let on_disk = BTreeSet::from(["kept".into()]);
        for round in 0..1000 {
            let id = TaskId::from(format!("task{round}"));
            pending.add(id.clone(), task("task"));
            pending.add("kept".into(), Edit { assigned: Some(round % 2 == 0), ..Edit::default() });
            let failed = pending.take(&on_disk);
            pending.add(id, forget());
            pending.put_back(failed);
        }
        let edits = pending.take(&on_disk);
        let left: Vec<_> = edits.keys().map(TaskId::as_str).collect();
        assert_eq!(left, ["kept"]);
        assert_eq!(edits[&TaskId::from("kept")].assigned, Some(false));
        assert!(pending.is_empty());
    }

    #[test]
    fn what_was_added_since_comes_after_what_failed() {
        let mut pending = Pending::default();
        let on_disk = BTreeSet::from(["a".into()]);
        pending.add("a".into(), task("old"));
        let failed = pending.take(&on_disk);
        pending.add("a".into(), forget());
        pending.add("a".into(), task("new"));
        pending.put_back(failed);
        let edits = pending.take(&on_disk);
        assert_eq!(edits[&TaskId::from("a")], Edit { forget: true, ..task("new") });
    }
}
