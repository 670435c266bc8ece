//! What a node should run, as a stream of differences.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_control::{Change, Changes, Object, ObjectKey, Store};
use skep_proto::v1;
use skep_types::{Config, Meta, NodeId, Secret, Task, TaskState, TaskStatus};
use v1::assignment::Item;
use v1::assignment_change::AssignmentAction;
use v1::assignments_message::Type;

/// What one node was told so far, and so what it has to be told next.
pub(crate) struct Assignments {
    node: NodeId,
    tasks: BTreeMap<String, Arc<Task>>,
    secrets: BTreeMap<String, Arc<Secret>>,
    configs: BTreeMap<String, Arc<Config>>,
    /// Number of the last message.
    sequence: u64,
}

impl Assignments {
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            tasks: BTreeMap::new(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Everything, as the first message of a stream.
    pub fn complete(&mut self, store: &Store) -> v1::AssignmentsMessage {
        self.tasks.clear();
        self.secrets.clear();
        self.configs.clear();
        let changes = self.differences(store);
        self.number(Type::Complete, changes)
    }

    /// What changed for the node; `None` if nothing did.
    pub fn incremental(&mut self, store: &Store) -> Option<v1::AssignmentsMessage> {
        let changes = self.differences(store);
        if changes.is_empty() {
            return None;
        }
        Some(self.number(Type::Incremental, changes))
    }

    fn number(&mut self, kind: Type, changes: Vec<v1::AssignmentChange>) -> v1::AssignmentsMessage {
        let applies_to = match self.sequence {
            0 => String::new(),
            n => n.to_string(),
        };
        self.sequence += 1;
        v1::AssignmentsMessage {
            r#type: kind.into(),
            applies_to,
            results_in: self.sequence.to_string(),
            changes,
        }
    }

    /// Whether a batch of changes can concern the node: its own tasks, or what they depend on.
    pub fn concerns(&self, changes: &Changes) -> bool {
        changes.list.iter().any(|change| match change.key() {
            ObjectKey::Task(_) => self.is_ours(change),
            ObjectKey::Secret(id) => self.secrets.contains_key(id.as_str()),
            ObjectKey::Config(id) => self.configs.contains_key(id.as_str()),
            _ => false,
        })
    }

    fn is_ours(&self, change: &Change) -> bool {
        let ours = |object: Option<&Object>| matches!(object, Some(Object::Task(task)) if task.node_id == self.node);
        ours(change.old()) || ours(change.new_object())
    }

    fn differences(&mut self, store: &Store) -> Vec<v1::AssignmentChange> {
        let mut tasks = BTreeMap::new();
        let mut secrets = BTreeMap::new();
        let mut configs = BTreeMap::new();
        for task in store.tasks_of_node(&self.node) {
            if task.status.state < TaskState::Assigned {
                continue;
            }
            tasks.insert(task.id.to_string(), task.clone());
            if task.status.state > TaskState::Running {
                continue;
            }
            let Some(container) = &task.spec.container_spec else { continue };
            for reference in &container.secrets {
                if let Some(secret) = store.secret(&reference.secret_id) {
                    secrets.insert(secret.id.to_string(), secret.clone());
                }
            }
            for reference in &container.configs {
                if let Some(config) = store.config(&reference.config_id) {
                    configs.insert(config.id.to_string(), config.clone());
                }
            }
        }
        let mut changes = Vec::new();
        diff(
            &mut changes,
            &self.secrets,
            &secrets,
            |a, b| a.spec == b.spec,
            |s| Item::Secret(s.into()),
            |id| Item::Secret(v1::Secret { id, ..Default::default() }),
        );
        diff(
            &mut changes,
            &self.configs,
            &configs,
            |a, b| a.spec == b.spec,
            |c| Item::Config(c.into()),
            |id| Item::Config(v1::Config { id, ..Default::default() }),
        );
        diff(
            &mut changes,
            &self.tasks,
            &tasks,
            same_work,
            |t| Item::Task(t.into()),
            |id| Item::Task(v1::Task { id, ..Default::default() }),
        );
        self.tasks = tasks;
        self.secrets = secrets;
        self.configs = configs;
        changes
    }
}

/// Whether the node would do the same for both: the observed state beyond ASSIGNED is its own.
fn same_work(old: &Task, new: &Task) -> bool {
    let bare =
        |task: &Task| Task { status: TaskStatus::default(), meta: Meta::default(), ..task.clone() };
    bare(old) == bare(new)
}

fn diff<T>(
    changes: &mut Vec<v1::AssignmentChange>,
    old: &BTreeMap<String, Arc<T>>,
    new: &BTreeMap<String, Arc<T>>,
    same: impl Fn(&T, &T) -> bool,
    item: impl Fn(&T) -> Item,
    bare: impl Fn(String) -> Item,
) {
    let change = |action: AssignmentAction, item| v1::AssignmentChange {
        assignment: Some(v1::Assignment { item: Some(item) }),
        action: action.into(),
    };
    for (id, object) in new {
        let known = old.get(id);
        if known.is_none_or(|known| !Arc::ptr_eq(known, object) && !same(known, object)) {
            changes.push(change(AssignmentAction::Update, item(object)));
        }
    }
    for id in old.keys().filter(|id| !new.contains_key(*id)) {
        changes.push(change(AssignmentAction::Remove, bare(id.clone())));
    }
}
