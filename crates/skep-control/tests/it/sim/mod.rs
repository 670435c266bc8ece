//! A swarm in a box: the store, the leader's loops, and agents that obey desired states with delays.
//! One seed fixes everything.

mod agent;
mod chance;
mod invariants;
pub mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_control::{Action, Changes, Leader, Store, admission};
use skep_types::{
    Nanos, Node, NodeId, NodeState, Service, ServiceId, ServiceSpec, Task, TaskState, Timestamp,
};

pub use agent::Behaviour;
pub use chance::Chance;

pub struct Sim {
    pub store: Store,
    pub leader: Leader,
    pub now: Timestamp,
    pub chance: Chance,
    /// Every applied entry.
    pub log: Vec<Vec<Action>>,
    /// How containers behave, by image.
    pub images: BTreeMap<String, Behaviour>,
    pub nodes: Vec<NodeId>,
    agents: agent::Agents,
    highest: invariants::Seen,
    wake_at: Option<Timestamp>,
    /// Whether proposals get lost, whole or in part.
    pub lossy: bool,
}

impl Sim {
    /// A swarm with so many ready nodes, and a leader that has settled.
    pub fn new(seed: u64, nodes: usize) -> Self {
        let mut sim = Self {
            store: Store::new(),
            leader: Leader::new(),
            now: Timestamp::from_unix(1_700_000_000, 0).unwrap(),
            chance: Chance::new(seed),
            log: Vec::new(),
            images: BTreeMap::new(),
            nodes: Vec::new(),
            agents: agent::Agents::default(),
            highest: invariants::Seen::default(),
            wake_at: None,
            lossy: false,
        };
        let seed = admission::ClusterSeed {
            id: "clusterclusterclustercl01".into(),
            ..admission::ClusterSeed::default()
        };
        let actions =
            admission::create_cluster(&sim.store, seed, sim.now, &mut sim.chance).unwrap();
        sim.apply(actions);
        for number in 1..=nodes {
            sim.add_node(number);
        }
        sim.settle();
        sim
    }

    pub fn add_node(&mut self, number: usize) -> NodeId {
        let id = NodeId::new(format!("node{number:021}"));
        let node = spec::node(&id, &format!("host{number}"));
        self.apply(vec![Action::Create(node.into())]);
        self.nodes.push(id.clone());
        id
    }

    /// One log entry: applied, told to the leader, and checked.
    pub fn apply(&mut self, actions: Vec<Action>) -> Changes {
        self.try_apply(actions).expect("batch applies")
    }

    pub fn try_apply(&mut self, actions: Vec<Action>) -> Result<Changes, skep_control::ApplyError> {
        let changes = self.store.apply(self.store.index() + 1, self.now, actions.clone())?;
        self.log.push(actions);
        self.leader.observe(&changes);
        invariants::check(&self.store, &changes, &mut self.highest);
        Ok(changes)
    }

    /// Steps until the leader has nothing more to do at this moment.
    pub fn settle(&mut self) {
        for _ in 0..60 {
            let step = self.leader.step(&self.store, self.now, &mut self.chance);
            self.wake_at = step.wake_at;
            if step.actions.is_empty() {
                invariants::check_settled(&self.store);
                return;
            }
            match self.lossy.then(|| self.chance.below(6)) {
                // Refused, or never heard of again.
                Some(0) => {}
                // The leader changes between two batches of one step.
                Some(1) => {
                    let size = usize::try_from(1 + self.chance.below(6)).unwrap();
                    let first = step.batches(size).swap_remove(0);
                    self.apply(first);
                    self.change_leader();
                }
                _ => {
                    self.apply(step.actions);
                }
            }
        }
        panic!("the leader does not come to rest");
    }

    /// Lets agents and leader act for a while.
    pub fn run(&mut self, secs: i64) {
        let end = self.now + Nanos::from_secs(secs);
        self.settle();
        loop {
            let reports = self.report();
            if !reports.is_empty() {
                self.apply(reports);
                self.settle();
            }
            let next = self
                .wake_at
                .into_iter()
                .chain(self.agents.next_event())
                .filter(|moment| *moment > self.now)
                .min()
                .unwrap_or(end);
            if next > end {
                break;
            }
            self.now = next;
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    fn report(&mut self) -> Vec<Action> {
        self.agents.report(&self.store, self.now, &self.images, &mut self.chance)
    }

    pub fn create(&mut self, spec: ServiceSpec) -> ServiceId {
        let (id, actions) =
            admission::create_service(&self.store, spec, self.now, &mut self.chance).unwrap();
        self.apply(actions);
        id
    }

    pub fn update(&mut self, id: &ServiceId, change: impl FnOnce(&mut ServiceSpec)) {
        let service = self.service(id);
        let mut spec = service.spec.clone();
        change(&mut spec);
        let version = service.meta.version;
        let actions = admission::update_service(&self.store, id, version, spec, self.now).unwrap();
        self.apply(actions);
    }

    pub fn remove(&mut self, id: &ServiceId) {
        let actions = admission::remove_service(&self.store, id, self.now).unwrap();
        self.apply(actions);
    }

    pub fn set_node(&mut self, id: &NodeId, change: impl FnOnce(&mut Node)) {
        let mut node = Node::clone(self.store.node(id).unwrap());
        change(&mut node);
        self.apply(vec![Action::Update(node.into())]);
    }

    /// The node stops to answer; the manager has noticed.
    pub fn lose(&mut self, id: &NodeId) {
        self.agents.set_alive(id, false);
        self.set_node(id, |node| node.status.state = NodeState::Down);
    }

    pub fn bring_back(&mut self, id: &NodeId) {
        self.agents.set_alive(id, true);
        self.set_node(id, |node| node.status.state = NodeState::Ready);
    }

    pub fn service(&self, id: &ServiceId) -> Arc<Service> {
        Arc::clone(self.store.service(id).expect("service is there"))
    }

    pub fn tasks(&self, id: &ServiceId) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self.store.tasks_of_service(id).cloned().collect();
        tasks.sort_by_key(|task| (task.slot, task.meta.created_at, task.id.clone()));
        tasks
    }

    /// Tasks meant to run, by slot.
    pub fn wanted(&self, id: &ServiceId) -> Vec<Arc<Task>> {
        let mut tasks = self.tasks(id);
        tasks.retain(|task| task.desired_state <= TaskState::Complete);
        tasks
    }

    pub fn running(&self, id: &ServiceId) -> Vec<Arc<Task>> {
        let mut tasks = self.wanted(id);
        tasks.retain(|task| task.status.state == TaskState::Running);
        tasks
    }

    /// A new leader, which knows nothing but the store.
    pub fn change_leader(&mut self) {
        self.leader = Leader::new();
    }
}
