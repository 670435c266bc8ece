use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{Service, Task, Timestamp};

use super::status::is_rollback;
use crate::Store;
use crate::orchestrator::dirty::is_up_to_date;
use crate::orchestrator::restart::should_restart;
use crate::orchestrator::slot::{Slot, SlotKey, is_wanted};

/// A slot as an update sees it.
pub(super) struct Progress {
    pub key: SlotKey,
    /// Wanted tasks of an old spec.
    pub old: Vec<Arc<Task>>,
    /// Wanted tasks of the present spec.
    pub new: Vec<Arc<Task>>,
    pub needs_update: bool,
    /// Touched since the run began.
    pub part_of_run: bool,
}

pub(super) fn look(
    store: &Store,
    service: &Service,
    slots: &BTreeMap<SlotKey, Slot>,
    started: Option<Timestamp>,
) -> Vec<Progress> {
    let mut list = Vec::with_capacity(slots.len());
    for (key, slot) in slots {
        let (new, old): (Vec<_>, Vec<_>) = slot
            .iter()
            .filter(|task| is_wanted(task))
            .cloned()
            .partition(|task| is_up_to_date(store, service, task));
        let given_up = new.is_empty() && old.is_empty() && !should_restart(service, slot);
        let outdated = || slot.last().is_some_and(|task| !is_up_to_date(store, service, task));
        // A rollback leaves alone what had ended under the spec it goes back to.
        let rolling_back = is_rollback(service);
        list.push(Progress {
            key: key.clone(),
            needs_update: !old.is_empty() || (given_up && !rolling_back && outdated()),
            part_of_run: started.is_some_and(|started| {
                slot.iter().any(|task| {
                    task.meta.created_at >= started && task.spec_version == service.spec_version
                })
            }),
            old,
            new,
        });
    }
    list
}
