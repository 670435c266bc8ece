use skep_types::TaskState;

/// What to do next with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until the task changes.
    Rest,
    /// Note the next state; nothing is to be done for it.
    Note { next: TaskState, message: &'static str },
    /// Do this; when it is done the task is in `next`.
    Do { work: Work, next: TaskState, message: &'static str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Prepare,
    Start,
    Wait,
    Shutdown,
}

/// The next step of a task that is in `state` and should be in `desired`.
///
/// Forward steps go one state at a time. A task whose desired state is below RUNNING is prepared and
/// then waits. From SHUTDOWN on it is stopped, whatever it was doing.
pub(super) fn next_step(desired: TaskState, state: TaskState) -> Step {
    use TaskState::{Accepted, Complete, Preparing, Ready, Running, Shutdown, Starting};
    if state >= Complete {
        return Step::Rest;
    }
    if desired >= Shutdown {
        return Step::Do { work: Work::Shutdown, next: Shutdown, message: "shutdown" };
    }
    match state {
        s if s < Accepted => Step::Note { next: Accepted, message: "accepted" },
        s if s < Preparing => Step::Note { next: Preparing, message: "preparing" },
        s if s < Ready => Step::Do { work: Work::Prepare, next: Ready, message: "prepared" },
        _ if desired < Running => Step::Rest,
        s if s < Starting => Step::Note { next: Starting, message: "starting" },
        s if s < Running => Step::Do { work: Work::Start, next: Running, message: "started" },
        _ => Step::Do { work: Work::Wait, next: Complete, message: "finished" },
    }
}

/// Where a task ends that met an error it cannot get over.
pub(super) fn state_after_error(state: TaskState) -> TaskState {
    if state < TaskState::Starting { TaskState::Rejected } else { TaskState::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::Mover;

    const OBSERVED: [TaskState; 7] = [
        TaskState::Assigned,
        TaskState::Accepted,
        TaskState::Preparing,
        TaskState::Ready,
        TaskState::Starting,
        TaskState::Running,
        TaskState::Complete,
    ];

    fn target(step: Step) -> Option<TaskState> {
        match step {
            Step::Rest => None,
            Step::Note { next, .. } | Step::Do { next, .. } => Some(next),
        }
    }

    /// Follows the steps to where they rest.
    fn path(desired: TaskState, mut state: TaskState) -> Vec<TaskState> {
        let mut path = Vec::new();
        while let Some(next) = target(next_step(desired, state)) {
            path.push(next);
            state = next;
        }
        path
    }

    #[test]
    fn a_running_task_goes_through_every_state() {
        use TaskState::{Accepted, Assigned, Complete, Preparing, Ready, Running, Starting};
        let all = [Accepted, Preparing, Ready, Starting, Running, Complete];
        assert_eq!(path(Running, Assigned), all);
        assert_eq!(path(Complete, Assigned), all, "jobs run to their end");
    }

    #[test]
    fn a_task_wanted_ready_waits_there() {
        use TaskState::{Accepted, Assigned, Preparing, Ready, Running};
        assert_eq!(path(Ready, Assigned), [Accepted, Preparing, Ready]);
        assert_eq!(next_step(Ready, Running), Step::Rest, "never backwards");
    }

    #[test]
    fn shutdown_stops_whatever_has_not_ended() {
        for desired in [TaskState::Shutdown, TaskState::Remove] {
            for state in OBSERVED.into_iter().filter(|s| !s.is_terminal()) {
                assert_eq!(path(desired, state), [TaskState::Shutdown], "{state}");
            }
        }
    }

    #[test]
    fn every_step_is_one_the_agent_may_take() {
        for desired in TaskState::ALL {
            for state in OBSERVED {
                let Some(next) = target(next_step(desired, state)) else { continue };
                assert_eq!(state.mover_to(next), Some(Mover::Agent), "{state} to {next}");
            }
        }
        for state in OBSERVED.into_iter().filter(|s| !s.is_terminal()) {
            let next = state_after_error(state);
            assert_eq!(state.mover_to(next), Some(Mover::Agent), "{state} to {next}");
        }
    }

    #[test]
    fn nothing_happens_after_the_end() {
        for state in TaskState::ALL.into_iter().filter(|s| s.is_terminal()) {
            for desired in TaskState::ALL {
                assert_eq!(next_step(desired, state), Step::Rest);
            }
        }
    }
}
