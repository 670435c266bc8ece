use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_types::{Nanos, Node, NodeId, PlacementPreference, ServiceId, Task, TaskState, Timestamp};

use super::filter::{Failure, first_failure, still_fits};
use super::nodes::Nodes;
use super::{ASSIGNED, assign, explain, refusal};
use crate::allocator::Room;
use crate::{Draft, Store};

/// A node on which the service failed this often within [`FAILURE_WINDOW`] comes last.
const MANY_FAILURES: usize = 5;
const FAILURE_WINDOW: Nanos = Nanos::from_secs(5 * 60);

/// What a node is chosen by, smallest first: whether the service keeps failing there, the service's
/// tasks, all tasks, the id.
type Rank = (bool, u64, u64, NodeId);

/// Places tasks that all ask for the same.
pub(super) fn place(
    draft: &mut Draft,
    nodes: &mut Nodes,
    room: &mut Room<'_>,
    tasks: Vec<Arc<Task>>,
) {
    let Some(sample) = tasks.first().map(Arc::clone) else { return };
    let failing = failing_nodes(draft, &sample.service_id, draft.now());
    let preferences = sample.spec.placement.as_ref().map_or(&[][..], |p| &p.preferences);
    let mut tree = Tree::default();
    for info in nodes.iter() {
        let path = path(&info.node, preferences);
        tree.count(&path, info.tasks_of(&sample.service_id));
        if first_failure(info, room, &sample).is_none() {
            let rank = rank(nodes, &failing, &sample, &info.node.id);
            tree.insert(path, rank);
        }
    }
    let mut reason = None;
    for task in tasks {
        let chosen =
            tree.choose(|id| nodes.get(id).is_some_and(|info| still_fits(info, room, &task)));
        match chosen {
            Some((path, id)) => {
                assign(draft, nodes, room, &task, &id, ASSIGNED);
                tree.count(&path, 1);
                tree.insert(path, rank(nodes, &failing, &task, &id));
            }
            None => {
                let reason = reason.get_or_insert_with(|| reasons(nodes, room, &task));
                explain(draft, &task, reason.clone());
            }
        }
    }
}

fn rank(nodes: &Nodes, failing: &BTreeSet<NodeId>, task: &Task, id: &NodeId) -> Rank {
    let (of_service, all) =
        nodes.get(id).map_or((0, 0), |info| (info.tasks_of(&task.service_id), info.active));
    (failing.contains(id), of_service, all, id.clone())
}

/// Why no node fits, the most frequent reason first.
fn reasons(nodes: &Nodes, room: &Room<'_>, task: &Task) -> String {
    let mut counts: BTreeMap<u8, (Failure<'_>, usize)> = BTreeMap::new();
    for failure in nodes.iter().filter_map(|info| first_failure(info, room, task)) {
        counts.entry(failure.order()).or_insert((failure, 0)).1 += 1;
    }
    let mut counts: Vec<_> = counts.into_values().collect();
    counts.sort_by_key(|(failure, count)| (std::cmp::Reverse(*count), failure.order()));
    refusal(&counts)
}

fn failing_nodes(store: &Store, service: &ServiceId, now: Timestamp) -> BTreeSet<NodeId> {
    let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for task in store.tasks_of_service(service) {
        let failed = matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
        let at = task.status.applied_at.unwrap_or(task.status.timestamp);
        if failed && at + FAILURE_WINDOW >= now {
            *counts.entry(task.node_id.clone()).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count >= MANY_FAILURES).map(|(node, _)| node).collect()
}

/// A node's values of the spread preferences.
fn path(node: &Node, preferences: &[PlacementPreference]) -> Vec<String> {
    preferences
        .iter()
        .filter_map(|preference| preference.spread.as_ref())
        .map(|spread| value(node, &spread.spread_descriptor))
        .collect()
}

/// The value of a descriptor such as `node.labels.rack`; unknown ones are the same everywhere.
fn value(node: &Node, descriptor: &str) -> String {
    let lower = descriptor.to_ascii_lowercase();
    let engine = node.description.engine.as_ref();
    let found = if lower.starts_with("node.labels.") {
        node.spec.annotations.labels.get(&descriptor["node.labels.".len()..]).cloned()
    } else if lower.starts_with("engine.labels.") {
        engine.and_then(|e| e.labels.get(&descriptor["engine.labels.".len()..]).cloned())
    } else {
        match lower.as_str() {
            "node.id" => Some(node.id.to_string()),
            "node.hostname" => Some(node.description.hostname.clone()),
            "node.platform.os" => Some(node.description.platform.os.clone()),
            "node.platform.arch" => Some(node.description.platform.architecture.clone()),
            _ => None,
        }
    };
    found.unwrap_or_default()
}

/// Candidates by their preferences' values. Each level is spread over evenly before the next one
/// counts.
#[derive(Debug, Default)]
struct Tree {
    leaves: BTreeMap<Vec<String>, BTreeSet<Rank>>,
    /// The service's tasks below each prefix of a path.
    counts: BTreeMap<Vec<String>, u64>,
}

impl Tree {
    fn count(&mut self, path: &[String], tasks: u64) {
        for depth in 1..=path.len() {
            *self.counts.entry(path[..depth].to_vec()).or_default() += tasks;
        }
    }

    fn insert(&mut self, path: Vec<String>, rank: Rank) {
        self.leaves.entry(path).or_default().insert(rank);
    }

    /// Takes out the best candidate; those that no longer fit are dropped on the way.
    fn choose(&mut self, fits: impl Fn(&NodeId) -> bool) -> Option<(Vec<String>, NodeId)> {
        loop {
            self.leaves.retain(|_, leaf| !leaf.is_empty());
            let path = self.leaves.keys().min_by_key(|path| self.weight(path))?.clone();
            let rank = self.leaves.get_mut(&path)?.pop_first()?;
            if fits(&rank.3) {
                return Some((path, rank.3));
            }
        }
    }

    fn weight(&self, path: &[String]) -> Vec<u64> {
        (1..=path.len())
            .map(|depth| self.counts.get(&path[..depth]).copied().unwrap_or(0))
            .collect()
    }
}
