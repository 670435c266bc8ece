use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{Service, Task, Timestamp};

use super::status::is_rollback;
use crate::Store;
use crate::orchestrator::dirty::is_up_to_date;
use crate::orchestrator::restart::should_restart;
use crate::orchestrator::slot::is_wanted;
use crate::slots::{Slot, SlotKey};

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

/// Whether a slot has tasks of an old spec, or was given up with one.
pub(super) fn needs_update(store: &Store, service: &Service, slot: &Slot) -> bool {
    let outdated = |task: &Arc<Task>| !is_up_to_date(store, service, task);
    if slot.iter().any(|task| is_wanted(task)) {
        return slot.iter().filter(|task| is_wanted(task)).any(outdated);
    }
    // A rollback leaves alone what had ended under the spec it goes back to.
    !should_restart(service, slot) && !is_rollback(service) && slot.last().is_some_and(outdated)
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
        list.push(Progress {
            key: key.clone(),
            needs_update: needs_update(store, service, slot),
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
