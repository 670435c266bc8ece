use std::collections::{BTreeMap, BTreeSet};

use skep_control::{Action, Store};
use skep_types::{Nanos, NodeId, Task, TaskId, TaskState, Timestamp};

use super::Chance;

/// What becomes of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    #[default]
    Runs,
    /// Cannot be prepared.
    Rejected,
    /// Fails so many milliseconds after its start.
    Crashes(i64),
    /// Exits with code 0 after so many milliseconds.
    Completes(i64),
    /// Fails once in a while.
    Flaky,
}

/// All agents: when each task takes its next step.
#[derive(Default)]
pub struct Agents {
    dead: BTreeSet<NodeId>,
    /// The step a task is about to take, and when.
    due: BTreeMap<TaskId, (TaskState, Timestamp)>,
}

impl Agents {
    pub fn set_alive(&mut self, node: &NodeId, alive: bool) {
        if alive {
            self.dead.remove(node);
        } else {
            self.dead.insert(node.clone());
        }
    }

    pub fn next_event(&self) -> Option<Timestamp> {
        self.due.values().map(|(_, at)| *at).min()
    }

    /// The status reports that are due.
    pub fn report(
        &mut self,
        store: &Store,
        now: Timestamp,
        images: &BTreeMap<String, Behaviour>,
        chance: &mut Chance,
    ) -> Vec<Action> {
        let mut plans = BTreeMap::new();
        let mut actions = Vec::new();
        for task in store.tasks() {
            if task.status.state < TaskState::Assigned || self.dead.contains(&task.node_id) {
                continue;
            }
            let Some((next, delay)) = next_step(task, images, chance) else { continue };
            let at = match self.due.get(&task.id) {
                Some((planned, at)) if *planned == next => *at,
                _ => now + delay,
            };
            if at <= now {
                let mut task = Task::clone(task);
                task.status.state = next;
                task.status.timestamp = now;
                task.status.applied_at = Some(now);
                actions.push(Action::Update(task.into()));
                // The next step is planned once this one is stored.
                plans.insert(actions_key(&actions), (next, now + Nanos(1)));
            } else {
                plans.insert(task.id.clone(), (next, at));
            }
        }
        self.due = plans;
        actions
    }
}

fn actions_key(actions: &[Action]) -> TaskId {
    actions.last().map(|action| TaskId::from(action.key().id())).unwrap_or_default()
}

/// The task's next state, and after how long.
fn next_step(
    task: &Task,
    images: &BTreeMap<String, Behaviour>,
    chance: &mut Chance,
) -> Option<(TaskState, Nanos)> {
    let image = task.spec.container_spec.as_ref().map_or("", |spec| spec.image.as_str());
    let behaviour = images.get(image).copied().unwrap_or_default();
    let state = task.status.state;
    let mut quick = || Nanos::from_millis(i64::try_from(20 + chance.below(400)).unwrap());
    if state.is_terminal() {
        return None;
    }
    if task.desired_state >= TaskState::Shutdown {
        return Some((TaskState::Shutdown, quick()));
    }
    Some(match state {
        TaskState::Assigned => (TaskState::Accepted, quick()),
        TaskState::Accepted => (TaskState::Preparing, quick()),
        TaskState::Preparing if behaviour == Behaviour::Rejected => (TaskState::Rejected, quick()),
        TaskState::Preparing => (TaskState::Ready, quick()),
        TaskState::Ready if task.desired_state <= TaskState::Ready => return None,
        TaskState::Ready => (TaskState::Starting, quick()),
        TaskState::Starting => (TaskState::Running, quick()),
        TaskState::Running => match behaviour {
            Behaviour::Crashes(millis) => (TaskState::Failed, Nanos::from_millis(millis)),
            Behaviour::Completes(millis) => (TaskState::Complete, Nanos::from_millis(millis)),
            Behaviour::Flaky => {
                let secs = i64::try_from(chance.below(60)).unwrap();
                (TaskState::Failed, Nanos::from_secs(secs + 1))
            }
            Behaviour::Runs | Behaviour::Rejected => return None,
        },
        _ => return None,
    })
}
