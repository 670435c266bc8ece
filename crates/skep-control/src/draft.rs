use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use skep_types::{Network, NetworkId, Node, NodeId, Service, ServiceId, Task, TaskId, Timestamp};

use crate::slots::{Slots, slots};
use crate::{Action, Object, ObjectKey, Store};

/// A store being changed on trial: later loops of one step see what earlier ones decided, and the
/// whole difference becomes one batch.
///
/// Reads go to the changed store (`Deref`). Several changes of one object become one action, based on
/// the version the draft started from.
#[derive(Clone, Debug)]
pub struct Draft {
    base: Store,
    store: Store,
    touched: BTreeSet<ObjectKey>,
    now: Timestamp,
    /// The slots that were asked for last, until a task changes: the loops look at one service after the other, several
    /// times each, and hardly ever change something.
    slots: RefCell<Option<(ServiceId, Arc<Slots>)>>,
}

impl Draft {
    pub fn new(base: &Store, now: Timestamp) -> Self {
        let (store, base, touched) = (base.clone(), base.clone(), BTreeSet::new());
        Self { base, store, touched, now, slots: RefCell::default() }
    }

    /// The moment all decisions of this draft are made at.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Creates an object or replaces the one with its id.
    pub fn put(&mut self, object: impl Into<Object>) {
        let mut object = object.into();
        let key = object.key();
        if self.base.get(&key).is_none() {
            let meta = object.meta_mut();
            meta.created_at = self.now;
            meta.updated_at = self.now;
        }
        self.touch(key);
        self.store.put(object);
    }

    pub fn remove(&mut self, key: impl Into<ObjectKey>) {
        let key = key.into();
        self.store.take(&key);
        self.touch(key);
    }

    fn touch(&mut self, key: ObjectKey) {
        if matches!(key, ObjectKey::Task(_)) {
            *self.slots.get_mut() = None;
        }
        self.touched.insert(key);
    }

    /// A service's slots as they are now.
    pub(crate) fn slots(&self, id: &ServiceId) -> Arc<Slots> {
        let mut known = self.slots.borrow_mut();
        match &*known {
            Some((service, slots)) if service == id => Arc::clone(slots),
            _ => {
                let slots = Arc::new(slots(self, id));
                *known = Some((id.clone(), Arc::clone(&slots)));
                slots
            }
        }
    }

    /// Changes a task; nothing happens if it is gone.
    pub fn task_mut(&mut self, id: &TaskId, change: impl FnOnce(&mut Task)) {
        if let Some(mut task) = self.store.task(id).cloned() {
            change(Arc::make_mut(&mut task));
            self.put(task);
        }
    }

    /// Changes a service; nothing happens if it is gone.
    pub fn service_mut(&mut self, id: &ServiceId, change: impl FnOnce(&mut Service)) {
        if let Some(mut service) = self.store.service(id).cloned() {
            change(Arc::make_mut(&mut service));
            self.put(service);
        }
    }

    /// Changes a node; nothing happens if it is gone.
    pub fn node_mut(&mut self, id: &NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(mut node) = self.store.node(id).cloned() {
            change(Arc::make_mut(&mut node));
            self.put(node);
        }
    }

    /// Changes a network; nothing happens if it is gone.
    pub fn network_mut(&mut self, id: &NetworkId, change: impl FnOnce(&mut Network)) {
        if let Some(mut network) = self.store.network(id).cloned() {
            change(Arc::make_mut(&mut network));
            self.put(network);
        }
    }

    /// Nodes that tasks changed in this draft are or were on.
    pub(crate) fn touched_task_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let tasks = self.touched.iter().filter_map(|key| match key {
            ObjectKey::Task(id) => Some([self.base.task(id), self.store.task(id)]),
            _ => None,
        });
        tasks.flatten().flatten().map(|task| task.node_id.clone()).filter(|id| !id.is_empty())
    }

    /// The difference to the store the draft began with: removals first, then the rest in the order of
    /// [`Kind`](crate::Kind). Cut anywhere, the first part alone is a legal state too.
    pub fn finish(self) -> Vec<Action> {
        let mut removals = Vec::new();
        let mut writes = Vec::new();
        for key in self.touched {
            match (self.base.get(&key), self.store.get(&key)) {
                (Some(old), None) => {
                    removals.push(Action::Remove { key, version: old.meta().version });
                }
                (Some(old), Some(new)) if old != new => writes.push(Action::Update(new)),
                (None, Some(new)) => writes.push(Action::Create(new)),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        removals.append(&mut writes);
        removals
    }
}

impl Deref for Draft {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}
