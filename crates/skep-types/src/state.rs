use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a task is in its life. The numbers are SwarmKit's and leave room between states; a task's
/// observed state never goes back to a smaller one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u16)]
pub enum TaskState {
    #[default]
    New = 0,
    Pending = 64,
    Assigned = 192,
    Accepted = 256,
    Preparing = 320,
    Ready = 384,
    Starting = 448,
    Running = 512,
    Complete = 576,
    Shutdown = 640,
    Failed = 704,
    Rejected = 768,
    /// Only ever desired, never observed.
    Remove = 800,
    Orphaned = 832,
}

/// Who may move a task out of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    Allocator,
    Scheduler,
    Agent,
    /// The orchestrators, when the task's node is lost for good.
    Orchestrator,
}

/// Every legal step, with its mover. Source: SwarmKit's task model.
const STEPS: &[(TaskState, TaskState, Mover)] = {
    use Mover::{Agent, Allocator, Orchestrator, Scheduler};
    use TaskState::{
        Accepted, Assigned, Complete, Failed, New, Orphaned, Pending, Preparing, Ready, Rejected,
        Running, Shutdown, Starting,
    };
    &[
        (New, Pending, Allocator),
        (Pending, Assigned, Scheduler),
        (Assigned, Accepted, Agent),
        (Accepted, Preparing, Agent),
        (Preparing, Ready, Agent),
        (Ready, Starting, Agent),
        (Starting, Running, Agent),
        (Starting, Complete, Agent),
        (Running, Complete, Agent),
        (Assigned, Rejected, Agent),
        (Accepted, Rejected, Agent),
        (Preparing, Rejected, Agent),
        (Ready, Rejected, Agent),
        (Starting, Failed, Agent),
        (Running, Failed, Agent),
        (Assigned, Shutdown, Agent),
        (Accepted, Shutdown, Agent),
        (Preparing, Shutdown, Agent),
        (Ready, Shutdown, Agent),
        (Starting, Shutdown, Agent),
        (Running, Shutdown, Agent),
        (Assigned, Orphaned, Orchestrator),
        (Accepted, Orphaned, Orchestrator),
        (Preparing, Orphaned, Orchestrator),
        (Ready, Orphaned, Orchestrator),
        (Starting, Orphaned, Orchestrator),
        (Running, Orphaned, Orchestrator),
    ]
};

impl TaskState {
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    pub const fn number(self) -> i32 {
        self as i32
    }

    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// True once the task can never run again.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    /// The mover that may take a task from this state to `next` in one step, if any may. Status
    /// reports are batched, so an observer can see several of the agent's steps at once.
    pub fn mover_to(self, next: Self) -> Option<Mover> {
        STEPS.iter().find(|(from, to, _)| (*from, *to) == (self, next)).map(|(_, _, mover)| *mover)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_goes_back() {
        for (from, to, _) in STEPS {
            assert!(from < to, "{from} -> {to}");
        }
    }

    #[test]
    fn each_state_has_one_mover_but_for_lost_nodes() {
        for state in TaskState::ALL {
            let mut movers: Vec<_> = STEPS
                .iter()
                .filter(|(from, to, _)| *from == state && *to != TaskState::Orphaned)
                .map(|(_, _, mover)| *mover)
                .collect();
            movers.dedup();
            assert!(movers.len() <= 1, "{state}: {movers:?}");
        }
    }

    #[test]
    fn nothing_leaves_a_terminal_state() {
        assert!(STEPS.iter().all(|(from, _, _)| !from.is_terminal()));
    }

    #[test]
    fn numbers_round_trip() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_number(state.number()), Some(state));
        }
        assert_eq!(TaskState::from_number(1), None);
    }
}
