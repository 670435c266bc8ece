//! The leader's loops as one step.

mod dirty;
mod roles;

use std::collections::{BTreeMap, BTreeSet};

use skep_types::{HostRoute, Nanos, NodeId, NodeState, ServiceId, TaskId, Timestamp, Version};

use crate::allocator::{Allocator, Spare, needs_allocation};
use crate::orchestrator::{self, Updater, Wake};
use crate::{Action, Changes, Draft, ObjectKey, Rng, Store, scheduler};
use dirty::Dirty;

/// How often everything is looked at, changed or not.
const FULL_PASS: Nanos = Nanos::from_secs(60);

/// What one pass of the leader's loops decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// To be proposed as one batch, or in several in this order; see [`Step::batches`].
    pub actions: Vec<Action>,
    /// Step again at this moment even if nothing changes until then; `None`: only after a change.
    pub wake_at: Option<Timestamp>,
}

impl Step {
    /// The actions cut into batches of at most `max`, to bound the size of a log entry. Each may be
    /// proposed once the one before is applied; after a failure just step again.
    pub fn batches(self, max: usize) -> Vec<Vec<Action>> {
        let mut batches = Vec::new();
        let mut rest = self.actions;
        while !rest.is_empty() {
            let tail = rest.split_off(rest.len().min(max.max(1)));
            batches.push(std::mem::replace(&mut rest, tail));
        }
        batches
    }
}

/// What a step looked at, and the objects it meant to change with the versions they had: if its
/// actions were not applied, it all has to be looked at again.
#[derive(Debug)]
struct Proposed {
    looked_at: Dirty,
    versions: Vec<(ObjectKey, Option<Version>)>,
}

/// The loops that only the leader runs. Make a new one at every start of leadership.
#[derive(Debug)]
pub struct Leader {
    dirty: Dirty,
    proposed: Option<Proposed>,
    /// Services to look at again at a moment of their own.
    timers: BTreeMap<ServiceId, Timestamp>,
    allocator: Allocator,
    updater: Updater,
    down_since: BTreeMap<NodeId, Timestamp>,
    next_full_pass: Option<Timestamp>,
    looked_before: bool,
    routes: Vec<HostRoute>,
}

impl Default for Leader {
    fn default() -> Self {
        Self::new()
    }
}

impl Leader {
    /// The first step looks at everything.
    pub fn new() -> Self {
        Self {
            dirty: Dirty { all: true, ..Dirty::default() },
            proposed: None,
            timers: BTreeMap::new(),
            allocator: Allocator::default(),
            updater: Updater::default(),
            down_since: BTreeMap::new(),
            next_full_pass: None,
            looked_before: false,
            routes: Vec::new(),
        }
    }

    /// Tells the routes of this leader's host, which subnets chosen from now on go round.
    pub fn know_routes(&mut self, routes: Vec<HostRoute>) {
        self.routes = routes;
    }

    /// Whether the next step has a subnet to choose.
    pub fn has_networks_to_allocate(store: &Store) -> bool {
        store.networks().any(|network| needs_allocation(network))
    }

    /// Tells what was applied (everything, one's own actions too), so that the next step looks at what
    /// it concerns. A change that was not told is found by the full pass that happens every minute.
    pub fn observe(&mut self, changes: &Changes) {
        self.dirty.note(changes);
    }

    /// Compares what should be with what is. Idempotent: applied and stepped again at the same moment,
    /// it returns no actions. If its actions are refused or lost, the next step decides anew.
    pub fn step(&mut self, store: &Store, now: Timestamp, rng: &mut dyn Rng) -> Step {
        if store.cluster().is_none() {
            return Step::default();
        }
        let mut wake = Wake::default();
        let dirty = self.collect(store, now);
        self.note_down_nodes(store, now);
        let mut draft = Draft::new(store, now);

        roles::follow_wishes(&mut draft);
        orchestrator::orphan_lost_tasks(&mut draft, &self.down_since, &mut wake);
        self.allocator.networks_and_services(
            &mut draft,
            &dirty.nodes,
            &dirty.services,
            &self.routes,
        );
        self.orchestrate(&mut draft, &dirty.services, rng);
        let attachments: Vec<TaskId> = dirty.attachments.iter().cloned().collect();
        orchestrator::remove_stray_tasks(&mut draft, &attachments);
        self.allocator.tasks(&mut draft);
        scheduler::schedule(&mut draft, &mut self.allocator);
        let nodes = with_changed_tasks(&draft, &dirty.nodes);
        self.allocator.nodes(&mut draft, &nodes, Spare::Free);

        let actions = draft.finish();
        self.remember(store, dirty, &actions);
        let moments = self.timers.values().copied();
        for moment in moments.chain(self.next_full_pass) {
            wake.at(moment);
        }
        Step { actions, wake_at: wake.0 }
    }

    /// What this step has to look at.
    fn collect(&mut self, store: &Store, now: Timestamp) -> Dirty {
        let mut dirty = std::mem::take(&mut self.dirty);
        if let Some(Proposed { looked_at, versions }) = self.proposed.take() {
            let applied = versions.iter().all(|(key, version)| {
                store.get(key).map(|object| object.meta().version) != *version
            });
            if !applied {
                dirty.merge(looked_at);
            }
        }
        if self.next_full_pass.is_none_or(|due| due <= now) {
            dirty.all = true;
        }
        if dirty.all {
            self.next_full_pass = Some(now + FULL_PASS);
        }
        let due: Vec<ServiceId> = (self.timers.iter())
            .filter(|(_, moment)| **moment <= now)
            .map(|(id, _)| id.clone())
            .collect();
        dirty.services.extend(due);
        dirty.expand(store);
        dirty
    }

    fn orchestrate(
        &mut self,
        draft: &mut Draft,
        services: &BTreeSet<ServiceId>,
        rng: &mut dyn Rng,
    ) {
        for id in services {
            let wake = orchestrator::reconcile(draft, id, &mut self.updater, rng);
            match wake.0 {
                Some(moment) => self.timers.insert(id.clone(), moment),
                None => self.timers.remove(id),
            };
        }
    }

    fn note_down_nodes(&mut self, store: &Store, now: Timestamp) {
        let first_look = !std::mem::replace(&mut self.looked_before, true);
        let down = |node: &skep_types::Node| node.status.state == NodeState::Down;
        self.down_since.retain(|id, _| store.node(id).is_some_and(|node| down(node)));
        for node in store.nodes().filter(|node| down(node)) {
            // A new leader goes by the node's last change, which is at or after its going down.
            let since = if first_look { node.meta.updated_at.min(now) } else { now };
            self.down_since.entry(node.id.clone()).or_insert(since);
        }
    }

    fn remember(&mut self, store: &Store, dirty: Dirty, actions: &[Action]) {
        if actions.is_empty() {
            return;
        }
        let versions = actions
            .iter()
            .map(|action| {
                let key = action.key();
                let version = store.get(&key).map(|object| object.meta().version);
                (key, version)
            })
            .collect();
        self.proposed = Some(Proposed { looked_at: dirty, versions });
    }
}

/// The nodes given, and those whose tasks this draft changed.
fn with_changed_tasks(draft: &Draft, nodes: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut nodes = nodes.clone();
    nodes.extend(draft.touched_task_nodes());
    nodes
}
