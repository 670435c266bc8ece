use std::collections::{BTreeMap, BTreeSet};

use skep_types::{NodeId, Service, TaskState};

use super::new_task;
use super::restart;
use super::slot::{has_wanted, is_wanted, want};
use crate::slots::{Slot, SlotKey};
use crate::{Draft, Rng};

/// As many slots as replicas, each with a task, unless its restart policy has given the slot up.
pub(crate) fn reconcile(draft: &mut Draft, service: &Service, replicas: u64, rng: &mut dyn Rng) {
    for (key, slot) in &*draft.slots(&service.id) {
        restart::tend(draft, service, key, slot, rng);
    }
    let slots = draft.slots(&service.id);
    let occupied: BTreeMap<&SlotKey, &Slot> = slots
        .iter()
        .filter(|(_, slot)| has_wanted(slot) || !restart::should_restart(service, slot))
        .collect();
    let have = u64::try_from(occupied.len()).unwrap_or(u64::MAX);
    if have > replicas {
        let surplus = usize::try_from(have - replicas).unwrap_or(usize::MAX);
        for key in victims(&occupied, surplus) {
            for task in &slots[&key] {
                want(draft, &task.id, TaskState::Remove);
            }
        }
    } else {
        let free = (1..).map(SlotKey::Number).filter(|key| !occupied.contains_key(key));
        let missing = usize::try_from(replicas - have).unwrap_or(usize::MAX);
        for key in free.take(missing) {
            new_task::create(draft, service, &key, TaskState::Running, rng);
        }
    }
    remove_dead_slots(draft, service);
}

/// History of slots that are not part of the service any more.
fn remove_dead_slots(draft: &mut Draft, service: &Service) {
    let slots = draft.slots(&service.id);
    let dead =
        slots.values().filter(|slot| !has_wanted(slot) && restart::should_restart(service, slot));
    for task in dead.flatten() {
        want(draft, &task.id, TaskState::Remove);
    }
}

/// Slots to give up when scaling down: first those that do not run, then from the node with most of
/// the service's tasks, then the highest number.
fn victims(occupied: &BTreeMap<&SlotKey, &Slot>, count: usize) -> BTreeSet<SlotKey> {
    let mut per_node: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let mut running: BTreeMap<&SlotKey, &NodeId> = BTreeMap::new();
    let mut chosen = BTreeSet::new();
    for (key, slot) in occupied.iter().rev() {
        let runs = (slot.iter().rev())
            .find(|task| is_wanted(task) && task.status.state == TaskState::Running);
        match runs {
            Some(task) => {
                *per_node.entry(&task.node_id).or_default() += 1;
                running.insert(key, &task.node_id);
            }
            None if chosen.len() < count => {
                chosen.insert((*key).clone());
            }
            None => {}
        }
    }
    while chosen.len() < count {
        let next = running
            .iter()
            .max_by_key(|(key, node)| (per_node.get(*node).copied(), **key))
            .map(|(key, node)| (*key, *node));
        let Some((key, node)) = next else { break };
        running.remove(key);
        per_node.entry(node).and_modify(|count| *count -= 1);
        chosen.insert(key.clone());
    }
    chosen
}
