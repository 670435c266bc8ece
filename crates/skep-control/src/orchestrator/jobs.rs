use std::sync::Arc;

use skep_types::{NodeAvailability, NodeId, ReplicatedJob, Service, Task, TaskState};

use super::global::{end_on_lost_nodes, is_home};
use super::slot::{has_wanted, want};
use super::{new_task, restart};
use crate::slots::SlotKey;
use crate::{Draft, Rng};

/// So many tasks that complete, so many at a time.
pub(crate) fn reconcile_replicated(
    draft: &mut Draft,
    service: &Service,
    job: ReplicatedJob,
    rng: &mut dyn Rng,
) {
    remove_old_runs(draft, service);
    for (key, slot) in &*draft.slots(&service.id) {
        restart::tend(draft, service, key, slot, rng);
    }
    let slots = draft.slots(&service.id);
    let completed = slots.values().filter(|slot| is_complete(slot)).count();
    let active = slots.values().filter(|slot| !is_complete(slot) && has_wanted(slot)).count();
    let given_up = slots.len() - completed - active;
    let total = job.total_completions.or(job.max_concurrent).unwrap_or(1);
    let at_once = job.max_concurrent.filter(|max| *max > 0).unwrap_or(total);
    let left = number(total).saturating_sub(completed + active + given_up);
    let room = number(at_once).saturating_sub(active);
    let free = (1..).map(SlotKey::Number).filter(|key| !slots.contains_key(key));
    for key in free.take(left.min(room)) {
        new_task::create(draft, service, &key, TaskState::Complete, rng);
    }
}

/// One task that completes on every node that fits.
pub(crate) fn reconcile_global(draft: &mut Draft, service: &Service, rng: &mut dyn Rng) {
    remove_old_runs(draft, service);
    end_on_lost_nodes(draft, service);
    let homes: Vec<(NodeId, bool)> = draft
        .nodes()
        .filter(|node| is_home(service, node))
        .map(|node| (node.id.clone(), node.spec.availability == NodeAvailability::Active))
        .collect();
    let slots = draft.slots(&service.id);
    for (node, takes_new) in homes {
        let key = SlotKey::Node(node);
        let slot = slots.get(&key).map_or(&[][..], Vec::as_slice);
        if is_complete(slot) {
            continue;
        }
        if has_wanted(slot) {
            restart::tend(draft, service, &key, slot, rng);
        } else if takes_new && restart::should_restart(service, slot) {
            new_task::create(draft, service, &key, TaskState::Complete, rng);
        }
    }
}

fn is_complete(slot: &[Arc<Task>]) -> bool {
    slot.iter().any(|task| task.status.state == TaskState::Complete)
}

fn remove_old_runs(draft: &mut Draft, service: &Service) {
    let run = service.job_status.as_ref().map(|job| job.job_iteration);
    let old: Vec<_> = draft
        .tasks_of_service(&service.id)
        .filter(|task| task.job_iteration != run)
        .map(|task| task.id.clone())
        .collect();
    for task in old {
        want(draft, &task, TaskState::Remove);
    }
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
